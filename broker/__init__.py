"""Kafka's protocol: topics, sending frames, dead letters, and what a person does with them."""
