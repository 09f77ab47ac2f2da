"""Tables: the one form of every result, and what can be done with them."""
