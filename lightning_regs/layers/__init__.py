"""Layers of regularization, and how they get into a net that was not written for them."""
