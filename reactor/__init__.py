"""Rows in Postgres become images, now.

    wake ──▶ claim ──▶ generate ──▶ settle          sweep: what the others missed

    listener.py   hears the NOTIFY of a mint and rings the wake
    dispatcher.py claims as many tokens as there are free slots, and starts them
    attempt.py    resumes, looks for or buys a prediction, and waits for its image
    settler.py    writes what came of it, fenced by the claim's epoch
    keeper.py     renews the leases of what is held, and takes over what dead workers left

`worker.py` puts them together; `store.py` is all that they say to the database.
"""

from reactor.application import lifespan, run
from reactor.settings import Settings, SettingsError
from reactor.table import TableError

__all__ = ["Settings", "SettingsError", "TableError", "lifespan", "run"]
