"""Weights & Biases: export of runs, and the report."""
