"""Rules for initial weights, by name, on any module."""
