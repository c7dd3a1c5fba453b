"""The methods CLIP2Scene is compared with, each one file behind the interface of `clip2scene.method.base`."""
