"""Real traffic for the tests: namespaces, servers and clients, and the captures made of what they say.

Run it through script/make-captures. Nothing here uses tshark: what is written to truth.json is what the
servers and clients counted themselves.
"""
