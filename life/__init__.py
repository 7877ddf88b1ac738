"""How long things stay: what is too old or erased goes from every store, by one process at a time."""
