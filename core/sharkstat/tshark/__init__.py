"""The tshark process, and the records it sends to Python."""
