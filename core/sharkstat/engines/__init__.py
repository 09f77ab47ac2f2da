"""Where a statistic is counted: in a Lua tap, on packets in Python, or by tshark itself."""
