"""Tensor functions and the LightningModule, on data already in memory. No Prefect, no URLs, no prices."""
