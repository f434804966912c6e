"""Prefect's server, worker, deployments and automations, as `serve` and `deploy` set them up."""
