"""What every method is tested with, for methods of your own too."""
