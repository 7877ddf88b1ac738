"""The encoder worker: a gRPC service that batches the pictures and texts of all callers for one model."""
