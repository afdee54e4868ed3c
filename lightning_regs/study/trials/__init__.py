"""Search over configurations: trials that are cells, chosen by Optuna, judged on held-out training data."""
