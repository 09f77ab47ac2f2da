"""A run: from a source and a plan to tables."""
