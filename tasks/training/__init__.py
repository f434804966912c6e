"""The training process, `python -m tasks.training`, and its surroundings."""
