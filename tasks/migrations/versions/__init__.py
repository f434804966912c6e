"""One file per change of the ledger, in order."""
