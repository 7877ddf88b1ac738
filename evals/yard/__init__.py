"""The project's own set of questions and composed fixed-camera videos; `python -m evals.yard FOLDER` makes it."""
