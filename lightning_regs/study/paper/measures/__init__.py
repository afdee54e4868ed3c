"""Measures: what a claim looks at, from rows to a number with its interval.

What is measured over seeds is one of few things, each with the interval that belongs to it: a weighted sum, or the
least or largest of several (Student's t, within the bounds of percentages); a ratio of two positive things (Student's
t of logarithms); a quotient of sums that may be near 0 (Fieller); a correlation of ranks; the distance of two peaks;
where a sweep falls, rises and falls again, and by how much.
Times that a run may end before (``until=``) are bounds where it did.
"""
