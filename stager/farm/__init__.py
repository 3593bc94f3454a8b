"""Where fetches run: one port, and the places behind it."""
