"""From frames in the broker to stored moments: the steps of the pipeline, the moment builder and its regions."""
