"""Refuse a version of Python that the libraries do not run on, before any of them is imported."""

import sys

if not (3, 11) <= sys.version_info[:2] <= (3, 12):
    found = ".".join(str(part) for part in sys.version_info[:3])
    print("error: found Python " + found + "; expected Python 3.11 or 3.12", file=sys.stderr)
    sys.exit(2)
