"""How large weights become, how far they go, and how many are zero."""
