"""Synthetic worlds, ray-cast sensors, and writers for the data sets' own on-disk formats."""
