"""Training: the loop, losses, checkpoints, and the models that pre-training distils."""
