"""The tshark process, and the lines between it and Python."""
