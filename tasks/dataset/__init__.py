"""What becomes of the samples of a data set: looked at, fitted or skipped."""
