"""The samples of a data set: inspected, then fitted or skipped."""
