"""Checks of this machine for `doctor`: each tells one thing that is ready, or what is missing and the remedy."""
