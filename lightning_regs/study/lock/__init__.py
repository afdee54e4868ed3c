"""Claims frozen before they are measured: what a claim is, in one short hash, and the file that keeps it."""
