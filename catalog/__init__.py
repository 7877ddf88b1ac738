"""What must be remembered besides vectors: cameras, pictures, and what was not looked at."""
