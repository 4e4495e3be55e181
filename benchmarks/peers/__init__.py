"""Other ways to a network of the same size, for tables 1 and 2."""
