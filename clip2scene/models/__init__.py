"""Networks: sparse 3D backbones, MaskCLIP on open_clip, image encoders on timm."""
