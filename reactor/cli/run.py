"""`reactor run`: the worker."""

from __future__ import annotations

import gc
import os
import signal
from functools import partial
from typing import TYPE_CHECKING

import click

from reactor.cli.failures import failure, run_async
from reactor.settings import Settings
from reactor.text.messages import message_of

if TYPE_CHECKING:
    from reactor.systemd import ServiceManager


@click.command()
@click.option("--drain", is_flag=True, help="Stop once no token is detected or generating.")
def run(*, drain: bool) -> None:
    """Turn tokens into images until SIGTERM or Ctrl-C."""
    settings = Settings.load()
    # The running worker handles signals itself. Before it there is nothing to hand back, after it nothing to stop.
    signal.signal(signal.SIGTERM, _leave)

    from reactor.application import run as run_reactor
    from reactor.database.connections import RefusedError
    from reactor.database.table import TableError
    from reactor.logs import StructuredLog

    collect_rarely()
    log = StructuredLog(settings.redact, level=settings.log_level, style=settings.log_format)

    try:
        run_async(partial(run_reactor, settings, drain=drain, log=log, manager=_manager()))
    except (TableError, RefusedError) as error:
        raise failure(settings.redact(message_of(error)), error) from error
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def collect_rarely() -> None:
    """Exempt the objects of the start from garbage collection, and collect a tenth as often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


def _manager() -> ServiceManager | None:
    if not os.environ.get("NOTIFY_SOCKET"):
        return None

    from reactor.systemd import ServiceManager

    return ServiceManager.of(os.environ)


def _leave(*_: object) -> None:
    raise SystemExit(0)
