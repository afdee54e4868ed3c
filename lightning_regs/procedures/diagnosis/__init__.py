"""A training examined before it is trusted: checks by the recipe, each a small function of a case."""
