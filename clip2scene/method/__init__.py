"""Pre-training: the interface of a method, and CLIP2Scene itself."""
