"""Rows in Postgres become images, now.

    wake ──▶ claim ──▶ generate ──▶ settle          sweep: what the others missed

    listener.py   hears the NOTIFY of a mint and rings the wake
    bell.py       has mints ring only where somebody waits, and one worker of a fleet answer
    dispatcher.py claims tokens for the free slots (claimer.py: which; detour.py: past refused ones)
    attempt.py    resumes, looks for or buys a prediction, and waits for its image
    settler.py    writes what came of it, fenced by the claim's epoch
    gate.py       closes and opens the gate for what attempts learn; inspector.py looks and announcer.py says how it is
    leases.py     renews the leases of what is held
    rescuer.py    takes over what dead workers left

`worker.py` puts them together; `store.py` is all that they say to the database.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reactor.application import lifespan, run
    from reactor.settings import Settings, SettingsError
    from reactor.table import TableError

__all__ = ["Settings", "SettingsError", "TableError", "lifespan", "run"]

_HOMES = {"lifespan": "application", "run": "application", "TableError": "table"}


def __getattr__(name: str) -> Any:
    # At first use: the provider's SDK takes a second to import, and `reactor --help` needs none of it.
    if name not in __all__:
        raise AttributeError(f"module 'reactor' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"reactor.{_HOMES.get(name, 'settings')}"), name)
