"""Finds `alembic` and `sql`, in a checkout or in an installed wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def home(folder: str) -> Path:
    """Where `alembic` and `sql` are: inside the installed package, else at the top of the checkout."""
    inside = _PACKAGE / folder
    return inside if inside.is_dir() else _PACKAGE.parent / folder


def read(name: str) -> str:
    """The file of an object that lives in the database."""
    return (home("sql") / f"{name}.sql").read_text(encoding="utf-8")


def body(function: str) -> str:
    """The body of a function, as the catalogue has it."""
    return read(function).split("$$")[1]
