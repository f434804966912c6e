"""The nine steps of the pipeline: plain functions that touch files, and under each a thin Prefect task."""
