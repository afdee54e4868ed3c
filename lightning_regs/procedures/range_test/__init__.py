"""The learning-rate range test, on copies of a module: which rate to train at, and how much that hangs on chance."""
