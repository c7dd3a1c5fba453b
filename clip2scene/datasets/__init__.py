"""Data sets: downloaded files are indexed once, then read frame by frame."""
