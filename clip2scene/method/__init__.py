"""Pre-training methods: their interface, and CLIP2Scene."""
