"""The database: bills, and how runs ended."""
