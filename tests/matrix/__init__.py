"""The tests of the database against every major version of PostgreSQL: `make test-matrix`."""
