"""What may be asked, what is meant, what can go wrong. pydantic and the standard library only."""
