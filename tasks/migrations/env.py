"""Alembic's entry: the ledger hands its open connection over, and everything happens in its transaction."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, transactional_ddl=True)
context.run_migrations()
