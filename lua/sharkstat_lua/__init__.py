"""The Lua taps that sharkstat runs inside tshark; every one also runs in tshark by itself."""
