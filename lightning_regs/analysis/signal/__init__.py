"""Signals on their way through a net."""
