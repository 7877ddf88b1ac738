"""The index of moments: the store's port, shards, time buckets, Milvus."""
