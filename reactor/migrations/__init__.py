"""`reactor migrate`: runs the revisions in `alembic/`, and repairs the triggers.

revisions.py       upgrade and downgrade
migration_lock.py  runs one migration at a time, and retries while the table is in use
triggers.py        makes and enables the wake triggers
schema.py          the tables as SQLAlchemy describes them, for Alembic and the tests
"""
