"""Finished runs for others: model cards, data cards, and crates of finished tables."""
