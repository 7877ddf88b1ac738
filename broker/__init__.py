"""Kafka's protocol: topics, sending frames, and listing, replaying and dropping dead letters."""
