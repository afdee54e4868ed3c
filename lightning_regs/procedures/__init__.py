"""Training in stages, each a folder, resumable."""
