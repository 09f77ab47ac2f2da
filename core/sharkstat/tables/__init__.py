"""The one contract, a table, and what is done with it."""
