"""Where questions meet moments: search, cache and the gRPC API."""
