"""Migrations of the ledger's tables, step by step; Alembic runs those that a database still lacks."""
