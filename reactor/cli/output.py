"""What becomes of a command whose output nobody reads, or cannot be written, or has another alphabet."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

UNREAD = 141  # what a shell tells of a program that SIGPIPE ended: 128 + 13


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
