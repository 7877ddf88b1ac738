"""Where moments rest: the store's port, shards, time buckets, Milvus."""
