"""State besides vectors: cameras, thumbnails, and which spans were not looked at."""
