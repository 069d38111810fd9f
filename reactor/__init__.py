"""Turns rows in Postgres into images at once.

    wake ──▶ claim ──▶ generate ──▶ settle          engine/, a folder for each

    application.py, supervisor.py  the library: run(), and a lifespan for an ASGI application
    engine/      the worker, with its leases, its rescuer and the gate
    database/    connections to PostgreSQL, and every statement
    providers/   the protocol of a provider, and Replicate's adapter
    migrations/  the tables and triggers
    text/        makes text from outside safe to store, log and show
    web/         the HTTP port: health and metrics
    cli/ demo/   the commands
    sandbox/     a provider that costs nothing
    embedded/    a PostgreSQL that needs no installation

The modules that all of them share are beside them: settings, tokens, errors, events, telemetry.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reactor.application import lifespan, run
    from reactor.database.table import TableError
    from reactor.settings import Settings, SettingsError

__all__ = ["Settings", "SettingsError", "TableError", "lifespan", "run"]

_HOMES = {"lifespan": "application", "run": "application", "TableError": "database.table"}


def __getattr__(name: str) -> Any:
    # Import at first use, because the provider's SDK takes a second to import and `reactor --help` does not need it.
    if name not in __all__:
        raise AttributeError(f"module 'reactor' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"reactor.{_HOMES.get(name, 'settings')}"), name)
