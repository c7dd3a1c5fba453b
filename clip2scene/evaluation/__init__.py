"""Evaluation: one metric, and the protocols that end in it."""
