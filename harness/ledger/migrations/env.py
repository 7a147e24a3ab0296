"""Asked by Alembic for each migration: it runs on the connection that `harness.ledger.migrate` hands over."""

from __future__ import annotations

from alembic import context

from harness.ledger.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,  # SQLite can't alter most of a table, and gets a new one
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
