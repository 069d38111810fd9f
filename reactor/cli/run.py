"""`reactor run`: the worker."""

from __future__ import annotations

import gc
import signal
from functools import partial

import click

from reactor.cli.failures import run_async
from reactor.settings import Settings
from reactor.text.messages import message_of


@click.command()
@click.option("--drain", is_flag=True, help="Stop once no token is detected or generating.")
def run(*, drain: bool) -> None:
    """Turn tokens into images until SIGTERM or Ctrl-C."""
    settings = Settings.load()
    # The running worker handles signals itself. Before it there is nothing to hand back, after it nothing to stop.
    signal.signal(signal.SIGTERM, _leave)

    from reactor.application import run as run_reactor
    from reactor.database.table import TableError
    from reactor.logs import StructuredLog
    from reactor.text.redaction import Redactor

    collect_rarely()
    log = StructuredLog(Redactor(settings.secrets()), level=settings.log_level, style=settings.log_format)

    try:
        run_async(partial(run_reactor, settings, drain=drain, log=log))
    except TableError as error:
        raise click.ClickException(message_of(error)) from error
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def collect_rarely() -> None:
    """Exempt the objects of the start from garbage collection, and collect a tenth as often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


def _leave(*_: object) -> None:
    raise SystemExit(0)
