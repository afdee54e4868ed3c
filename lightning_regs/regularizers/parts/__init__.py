"""What methods are made of, and no method itself."""
