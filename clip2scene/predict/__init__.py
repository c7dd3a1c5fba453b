"""Finished networks in use: labels for any scan, free text, submissions to benchmarks, a viewer."""
