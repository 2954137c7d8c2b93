"""A run of a script from its first check to its results."""
