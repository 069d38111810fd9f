"""Tests of a real PgBouncer, and of a PostgreSQL with TLS of its own: `make test-pooler`."""
