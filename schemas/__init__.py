"""Request forms, plans, results, errors and unit conversions. pydantic and the standard library only."""
