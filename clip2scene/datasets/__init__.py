"""Data sets: raw files as they were downloaded -> an index -> frames."""
