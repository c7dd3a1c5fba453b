"""Networks: sparse 3D backbones, MaskCLIP on open_clip, and image encoders on timm."""
