"""The query service: search, cache and the gRPC API."""
