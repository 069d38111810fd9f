"""What commands print, and what becomes of output that nobody reads, or cannot be written, or has another alphabet.

Every command prints through here, so that whatever it prints is fit to be shown: see foreign.py.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reactor.text.foreign import LONGEST_LINE, fit, fit_line, fit_values
from reactor.text.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import TextIO

UNREAD = 141  # what a shell tells of a program that SIGPIPE ended: 128 + 13
MOST_LINES = 200  # of a traceback


def say(words: Any, *, err: bool = False) -> None:
    """Print one line."""
    click.echo(fit_line(str(words)), err=err)


def say_lines(words: str, *, err: bool = False) -> None:
    """Print lines of our own."""
    for line in words.split("\n"):
        say(line, err=err)


def say_json(value: Any) -> None:
    """Print a value as JSON, on one line."""
    import orjson

    click.echo(orjson.dumps(fit_values(value)).decode())


def say_over(words: str) -> None:
    """Print on a terminal's line again, in place of what stood there."""
    click.echo(f"\r{fit_line(words)}", nl=False, err=True)


def complain(error: click.ClickException) -> None:
    """Print a user's mistake as click does, but its message, which may repeat what was given, on one line."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        say_lines(f"{context.get_usage()}\nTry '{context.command_path} --help' for help.\n", err=True)
    say(f"Error: {error.format_message()}", err=True)


def sanitise_crashes() -> None:
    """Make fit what Python prints of a crash, and what libraries log where nobody has set up logging.

    An exception's message may repeat what the provider or the database said.
    """
    sys.excepthook = _crash
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Fit())


def _crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    redact = Redactor()  # by shape: no settings may be known yet
    told = "".join(traceback.format_exception(kind, error, trace)).rstrip("\n").split("\n")
    for line in told[-MOST_LINES:]:
        click.echo(redact(line, longest=LONGEST_LINE), err=True)


class _Fit(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return fit(super().format(record))


@contextmanager
def output() -> Iterator[None]:
    """End quietly, as unix tools do, where the reader went away; a full disk is one line and exit code 1."""
    if sys.stdout is None:  # closed before the start
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  (for as long as we live)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no "…" gets a "?"
    streams = sys.stdout, sys.stderr
    try:
        yield
    except SystemExit:
        if (sys.stdout, sys.stderr) == streams:
            raise
        sys.stdout, sys.stderr = streams  # click met a broken pipe, put others there, and made it exit code 1
        sys.exit(UNREAD)
    except BrokenPipeError:
        sys.exit(UNREAD)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        click.echo(f"Error: cannot write the output: {error.strerror}", err=True)
        sys.exit(1)
    finally:
        for stream in streams:
            _let_go(stream)


def _let_go(stream: TextIO | None) -> None:
    """Write what is left, or forget it: Python would try again at its end, and complain."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
