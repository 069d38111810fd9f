"""The command line. One file for each group of commands; a command imports slow modules only when it runs."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

import click

from reactor.cli.database import migrate
from reactor.cli.gate import pause, resume
from reactor.cli.output import complain, output, say
from reactor.cli.retry import retry
from reactor.cli.run import run
from reactor.cli.tokens import mint, show, status
from reactor.cli.trial import demo, sandbox
from reactor.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("mint-reactor"), prog_name="reactor")
def commands() -> None:
    """Turn rows in Postgres into images at once."""


for _command in (run, migrate, demo, sandbox, mint, status, show, retry, pause, resume):
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
