"""The encoder worker: one gRPC service that batches everybody's pictures and words onto one model."""
