"""`reactor migrate`: completes a database, and removes again what was added.

revisions.py       upgrade, plan and downgrade
survey.py          finds the tokens table, maps it, and refuses one that cannot be mapped
steps.py           the statements that complete one tokens table
indexes.py         the indexes, as they should be and as they are
removal.py         removes what was added to one tokens table
migration_lock.py  runs one migration at a time, and retries while the table is in use
schema.py          the tables as SQLAlchemy describes them, for Alembic and the tests
files.py           finds the files of `alembic` and `sql`
"""
