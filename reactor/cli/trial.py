"""Commands that need nothing but themselves: demo and sandbox."""

from __future__ import annotations

import click

from reactor.cli.failures import run_async


@click.command()
@click.option("--tokens", type=click.IntRange(1, 100_000), default=40, show_default=True, help="Mints to show.")
def demo(*, tokens: int) -> None:
    """Watch mints become images: own PostgreSQL, sandbox provider, nothing to set up."""
    from reactor.demo import show  # noqa: PLC0415  (needs the demo extra)

    show(tokens)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8788, show_default=True, help="0: a free one.")
def sandbox(*, host: str, port: int) -> None:
    """Serve a Replicate-compatible sandbox; its base URL is the first line on stdout."""
    from reactor.sandbox import Sandbox  # noqa: PLC0415
    from reactor.sandbox.server import serve_forever  # noqa: PLC0415

    async def main() -> None:
        try:
            await serve_forever(Sandbox(), host, port)
        except OSError as error:
            raise click.ClickException(f"cannot serve on {host}:{port}: {error.strerror}") from error

    run_async(main)
