"""Turns rows in Postgres into images at once.

    wake ──▶ claim ──▶ generate ──▶ settle          engine/, a folder for each

    application.py, embedding.py   the library: run(); lifespan, running() and page() for other applications
    engine/      the worker, with its leases, its rescuer and the gate
    database/    connections to PostgreSQL, and every statement
    providers/   the protocol of a provider, and Replicate's adapter
    migrations/  the tables and triggers
    operations/  what an operator asks: retry, pause, status, doctor, audit; the commands and the page both call it
    text/        makes text from outside safe to store, log and show
    web/         the HTTP port: health, metrics, the page and the API
    otel/        traces and metrics by OpenTelemetry, if it is installed
    cli/         the command line; __main__.py is its entry point
    demo/        `reactor demo`
    sandbox/     a provider that costs nothing
    embedded/    a PostgreSQL that needs no installation

What all of them share:

    tokens.py      a token as a worker holds it, and its outcomes
    errors.py      what can go wrong with a generation
    events.py      the name of every event; telemetry.py delivers events to sinks
    logs.py        events as log lines; measures.py: as measurements
    settings.py    every setting; environment.py reads their values, urls.py checks their URLs
    secret.py      a secret that may be rotated; rotation.py reads it again
    backoff.py     how long to wait before trying again
    hosts.py       which hosts mean this machine
    failpoints.py  places where a test makes something go wrong

What runs a worker:

    handle.py      `Running`, a reactor inside another application; waits.py is its `wait_for`
    supervisor.py  replaces a worker that died inside another application
    systemd.py     tells a service manager about `reactor run`
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reactor.application import run
    from reactor.database.connections import RefusedError
    from reactor.database.table import TableError
    from reactor.embedding import lifespan, page, running
    from reactor.handle import Running
    from reactor.settings import Settings, SettingsError

__all__ = [
    "RefusedError",
    "Running",
    "Settings",
    "SettingsError",
    "TableError",
    "lifespan",
    "page",
    "run",
    "running",
]

_HOMES = {
    "Running": "handle",
    "lifespan": "embedding",
    "page": "embedding",
    "run": "application",
    "running": "embedding",
    "RefusedError": "database.connections",
    "TableError": "database.table",
}


def __getattr__(name: str) -> Any:
    # Import at first use, because the provider's SDK takes a second to import and `reactor --help` does not need it.
    if name not in __all__:
        raise AttributeError(f"module 'reactor' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"reactor.{_HOMES.get(name, 'settings')}"), name)
