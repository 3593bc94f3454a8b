"""Values and rules; nothing in here does I/O or knows the time."""
