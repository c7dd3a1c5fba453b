"""`python -m clip2scene.cli`: the same as the command ``clip2scene``."""

from clip2scene.cli import main

main(prog_name="clip2scene")
