"""Everything that cannot be made again, copied to another place and back: moments, pictures, facts."""
