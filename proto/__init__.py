"""What is said on the wire and between rooms: messages, plain types, the error tree, metric names."""
