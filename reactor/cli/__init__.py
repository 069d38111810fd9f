"""The command line. A command imports slow modules only when it runs.

run.py        `reactor run`
database.py   `migrate`
tokens.py     `mint` and `show`; listing.py: `tokens`; retry.py: `retry`
gate.py       `pause` and `resume`
status.py     `status`; doctor.py, audit.py: `doctor`, `audit`
trial.py      `demo` and `sandbox`
output.py     prints for all commands; progress.py: a progress bar
filters.py    the options of a filter; durations.py: a duration as an option
failures.py   turns the errors of a command into one line
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

import click

from reactor.cli.audit import audit
from reactor.cli.database import migrate
from reactor.cli.doctor import doctor
from reactor.cli.gate import pause, resume
from reactor.cli.listing import listing
from reactor.cli.output import complain, output, say
from reactor.cli.retry import retry
from reactor.cli.run import run
from reactor.cli.status import status
from reactor.cli.tokens import mint, show
from reactor.cli.trial import demo, sandbox
from reactor.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("mint-reactor"), prog_name="reactor")
def commands() -> None:
    """Turn rows in Postgres into images at once."""


for _command in (run, migrate, demo, sandbox, mint, status, listing, show, retry, pause, resume, doctor, audit):
    commands.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command. A user's mistake is one line on stderr: exit code 2 for settings and usage, 1 for the rest."""
    with output():
        _main(arguments)


def _main(arguments: Sequence[str] | None) -> None:
    try:
        commands.main(arguments, standalone_mode=False)
    except click.ClickException as error:
        complain(error)
        sys.exit(error.exit_code)
    except SettingsError as error:
        for problem in error.problems:  # it may show a file's name, which may contain a line feed
            say(problem, err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
