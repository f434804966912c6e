"""Weights of frozen linear layers: kept in fewer bits or in main memory, with an adapter beside them."""
