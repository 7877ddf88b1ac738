"""Shared by all rooms: wire messages, plain types, the error tree, metric names."""
