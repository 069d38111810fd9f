"""Rows in Postgres become images, now."""
