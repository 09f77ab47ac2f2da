"""What authors write, and how it is found."""
