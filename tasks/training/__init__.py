"""The training process, `python -m tasks.training`, and what runs beside it."""
