"""The built-in statistics, one file per family. They use only the public API of `sharkstat`."""
