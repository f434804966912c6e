"""The HTTP API: what clients of the hosted endpoints speak, and a history page for people."""
