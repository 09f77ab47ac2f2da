"""What plugin authors write, and the registry that finds it."""
