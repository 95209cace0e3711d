"""Alembic's entry: writes the migrations out as SQL, which `services.recorder.migrate` runs.

No transaction of alembic's own: the caller's, which holds the lock and the version it read, is around it.
"""

from __future__ import annotations

from alembic import context

context.configure(
    dialect_name="postgresql",
    dialect_opts={"paramstyle": "named"},  # the others double every %
    as_sql=True,
    literal_binds=True,
    output_buffer=context.config.output_buffer,
)
context.run_migrations()
