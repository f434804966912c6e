"""The manual: pages of docs/ that are made from endpoints and settings. `python -m flows.manual` writes them."""
