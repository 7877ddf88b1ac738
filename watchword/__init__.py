"""The front door: command line, settings, the embedded stack, and the composition of each process."""
