"""The training loop: steps, batches, memory, speed, random state."""
