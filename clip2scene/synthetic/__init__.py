"""Synthetic worlds, ray-cast sensors, and writers that speak the data sets' own on-disk formats."""
