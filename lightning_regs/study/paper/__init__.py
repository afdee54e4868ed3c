"""A paper as data: cells, claims, measures, figures."""
