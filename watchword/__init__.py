"""The entry point: command line, settings, the embedded stack, and the wiring of each process."""
