"""Runs the revisions on the connection that `service.schema` hands over, in its one transaction."""

from alembic import context

from service.tables import Table

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Table.metadata,
    render_as_batch=True,
    transaction_per_migration=False,
)
context.run_migrations()
