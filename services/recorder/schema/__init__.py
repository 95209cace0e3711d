"""The database's tables, as kept migrations (alembic); `services.recorder.migrate` applies them."""
