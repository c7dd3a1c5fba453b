"""Refuse Python versions that the libraries do not run on, and choose how to draw, before any is imported."""

import os
import sys

if not (3, 11) <= sys.version_info[:2] <= (3, 12):
    found = ".".join(str(part) for part in sys.version_info[:3])
    print("error: found Python " + found + "; expected Python 3.11 or 3.12", file=sys.stderr)
    sys.exit(2)

# No display is needed. The import of matplotlib fails on a name that it does not know.
os.environ["MPLBACKEND"] = "agg"
