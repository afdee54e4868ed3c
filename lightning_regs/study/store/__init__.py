"""The committed tables of a paper, read and written in one place."""
