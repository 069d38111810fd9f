"""Tests of a real PgBouncer: `make test-pooler`."""
