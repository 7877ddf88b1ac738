"""From cameras to stored moments: sources, the frames topic, Faust agents and the moment builder."""
