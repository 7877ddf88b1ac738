"""Changing the house over the network, by the same code as on the command line: cameras, tokens, erasures."""
