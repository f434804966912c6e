"""The nine steps: plain functions that touch files, and under each a thin Prefect task."""
