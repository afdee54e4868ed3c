"""Studies that can stand beside any paper: where variance comes from, and how far two nets agree, how robust one is."""
