"""Pages, cards and terminal output, made from the rows."""
