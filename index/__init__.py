"""Where moments rest: time buckets, shards, Milvus, thumbnails, and which cameras there are."""
