"""State besides the index: cameras and their views, leases, replays, what was not looked at, backgrounds, pictures."""
