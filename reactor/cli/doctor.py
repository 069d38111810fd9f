"""`reactor doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

import click

from reactor.cli.failures import run_async
from reactor.cli.output import say, say_json
from reactor.settings import DatabaseSettings, Settings, SettingsError

if TYPE_CHECKING:
    from reactor.operations.doctor import Report
    from reactor.text.redaction import Redactor


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
def doctor(*, as_json: bool) -> None:
    """Check the settings, the database, the table, what this role may do with it, and the provider. Changes nothing.

    Exit code 1 if a check failed. A check that could not be made is `unknown`. Run it as the worker's role.
    """
    settings = DatabaseSettings.load()

    from reactor.operations.doctor import examine

    report = run_async(partial(examine, settings, _worker()))
    (_say_object if as_json else _say_lines)(report, settings.redact)
    sys.exit(report.failed)


def _worker() -> Settings | SettingsError:
    """The settings of `run`, or what is wrong with them."""
    try:
        return Settings.load()
    except SettingsError as error:
        return error


def _say_lines(report: Report, redact: Redactor) -> None:
    for need, source in report.mapping:
        say(redact(f"{need:<8}{source}"))
    if report.mapping:
        say("")
    for finding in report.findings:
        todo = f"; {finding.todo}" if finding.todo else ""
        say(f"{finding.name:<23}{finding.state:<9}{redact(finding.found + todo)}")


def _say_object(report: Report, redact: Redactor) -> None:
    checks = [
        {
            "name": finding.name,
            "state": finding.state,
            "found": redact(finding.found),
            "todo": redact(finding.todo) if finding.todo else None,
        }
        for finding in report.findings
    ]
    say_json({"ok": not report.failed, "mapping": dict(report.mapping), "checks": checks})
