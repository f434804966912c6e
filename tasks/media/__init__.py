"""Media files read, decoded and written."""
