"""The training loop: steps, batches, memory, acceleration, random state."""
