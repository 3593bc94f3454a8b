"""Completion: told, never polled. Orders, leases and signals between a server and the workers of its farm."""
