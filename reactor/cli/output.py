"""Prints for all commands, and handles a closed pipe, a full disk and an encoding that lacks a character.

Every command prints through here, so that everything it prints is safe for a terminal: see foreign.py.
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

UNREAD = 141  # the exit code that a shell reports for a program ended by SIGPIPE: 128 + 13
MOST_LINES = 200  # of a traceback


def say(words: Any, *, err: bool = False) -> None:
    """Print one line."""
    click.echo(fit_line(str(words)), err=err)


def say_lines(words: str, *, err: bool = False) -> None:
    """Print several lines. The text must be our own, because others could add lines with a line feed."""
    for line in words.split("\n"):
        say(line, err=err)


def say_exactly(words: str) -> None:
    """Print a text as it is, however long. Raises ClickException if a terminal could obey something in it."""
    if any(fit(line) != line for line in words.split("\n")):
        raise click.ClickException("a name in it has characters that a terminal would obey; use reactor migrate itself")
    click.echo(words)


def say_json(value: Any) -> None:
    """Print a value as JSON, on one line."""
    import orjson

    click.echo(orjson.dumps(fit_values(value)).decode())


def complain(error: click.ClickException) -> None:
    """Print a user's mistake as click does, but its message on one line, because it may repeat the user's input."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        say_lines(f"{context.get_usage()}\nTry '{context.command_path} --help' for help.\n", err=True)
    say(f"Error: {error.format_message()}", err=True)


def sanitise_crashes() -> None:
    """Make Python's traceback of a crash safe for a terminal, and the lines of libraries if logging is not set up.

    An exception's message may repeat text of the provider or the database.
    """
    sys.excepthook = _crash
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Fit())


def _crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    redact = Redactor()  # finds secrets by their shape, because the settings may not be loaded yet
    lines = "".join(traceback.format_exception(kind, error, trace)).rstrip("\n").split("\n")
    for line in lines[-MOST_LINES:]:
        click.echo(redact(line, longest=LONGEST_LINE), err=True)


class _Fit(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return fit(super().format(record))


@contextmanager
def output() -> Iterator[None]:
    """End quietly if the reader of stdout is gone, as unix tools do. A full disk is one line and exit code 1."""
    if sys.stdout is None:  # it was closed before the start
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  (open until the process ends)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no "…" gets a "?"
    streams = sys.stdout, sys.stderr
    try:
        yield
    except SystemExit:
        if (sys.stdout, sys.stderr) == streams:
            raise
        sys.stdout, sys.stderr = streams  # after a broken pipe click replaces both and exits with 1
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
            _flush_or_drop(stream)


def _flush_or_drop(stream: TextIO | None) -> None:
    """Write the rest, or drop it if that fails: Python would try again when it exits, and print an error."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
