"""Flows: the pipeline's order (pipeline.py), one flow per endpoint (endpoints.py), the command line and the server."""
