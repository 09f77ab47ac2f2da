"""The built-in statistics, one file a family; they use only what `sharkstat` gives every plugin."""
