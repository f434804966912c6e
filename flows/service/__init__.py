"""The HTTP API for clients of the hosted endpoints, and a history page for people."""
