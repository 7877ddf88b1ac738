"""Sources become frames: what is looked at, what is kept, and how it reaches the broker."""
