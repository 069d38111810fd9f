"""The sandbox, the reactor and the mints in one event loop, and the order in which they start and stop."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

import anyio
import asyncpg

from reactor.database.connections import ConnectionLostError, DatabaseError, why_unreachable
from reactor.database.discovery import discover
from reactor.database.search_path import connect
from reactor.database.session import Session
from reactor.database.table import TableError
from reactor.demo.guide import Guide
from reactor.demo.house import DemoError, ending_signals, inspect
from reactor.demo.page import HOST, free_port, page
from reactor.demo.screen import output_for
from reactor.demo.script import script
from reactor.demo.stories import Stories
from reactor.engine.health import Health
from reactor.engine.worker import Worker
from reactor.migrations import revisions
from reactor.migrations.migration_lock import MigrationError
from reactor.providers.replicate import ReplicateProvider
from reactor.sandbox import Sandbox, Timing
from reactor.settings import Settings
from reactor.telemetry import Telemetry
from reactor.text.messages import message_of

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

    from reactor.database.table import TokensTable
    from reactor.demo.screen import Lines

TOKEN = "the-sandbox-takes-no-other"  # noqa: S105  (the sandbox accepts only this one, never a real one)
FALLBACK = "a quiet meadow in soft morning light, watercolour"
TIMING = Timing(queue=(0.1, 0.4), run=(0.4, 1.1))
# A quarter of a megapixel. A picture is painted in a fifth of the time, so the page fills sooner, and reactions are
# disturbed less, because the painter shares the processor.
MODEL_INPUT = {"megapixels": "0.25"}
PORT = 8787  # of the page, if it is free
QUIET = 0.04  # seconds after a COMMIT without drawing, because drawing would make the measured reaction longer
STRAY = "somebody else mints into this database: the reactor gave their token back, and the demo stopped"
_FAULTS = (DatabaseError, TableError, MigrationError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)


class DemoSettings(Settings):
    """Settings without the environment and without `.env`, because a real API token may be there."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **_others: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only the arguments, and the defaults."""
        del settings_cls  # pydantic prescribes the parameter
        return (init_settings,)


async def show(
    tokens: int,
    database_url: str,
    *,
    tokens_table: str = "tokens_s0",
    keep: bool = False,
    endless: bool = False,
    embedded: bool = False,
) -> int:
    """Run until all `tokens` have ended, or until a signal. Return the exit code.

    `embedded`: the database is the demo's own, and the screen shows its URL.

    `endless`: after `tokens` go on with a mint now and then, until a signal, so that there is time to look.

    `keep`: serve the pictures after that, until a signal. Raises DemoError, and SettingsError if the URL is not valid.
    """
    given = {"database_url": database_url, "tokens_table": tokens_table}
    settings = DemoSettings.load(**given, replicate_api_token=TOKEN, fallback_censored_prompt=FALLBACK, http_port=0)
    stage = Stage(settings, tokens, endless=endless, shown_url=database_url if embedded else None)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(stage.end_at_a_signal)
            await stage.run(keep=keep)
            group.cancel_scope.cancel()
    except ExceptionGroup as errors:
        if (known := errors.subgroup((DemoError, *_FAULTS))) is None:
            raise
        first = _first(known)
        said = why_unreachable(first) if isinstance(first, ConnectionLostError) else message_of(first)
        raise DemoError(settings.redact(said.split("\n")[0])) from errors
    return stage.exit_code


class Stage:
    def __init__(self, settings: Settings, tokens: int, *, endless: bool, shown_url: str | None) -> None:
        self._settings = settings
        self._endless = endless
        self._shown_url = shown_url  # of the database
        self._port = free_port(PORT)
        self._dsn = settings.secret("database_url")
        self._tokens = tokens
        self._redact = settings.redact
        self._stories = Stories(tokens, self._stop_for_a_stray, self._redact, endless=endless)
        self._sandbox = Sandbox(TIMING, token=TOKEN)
        self._entered = 0  # how far the sandbox's ledger has been read
        self._quiet = anyio.Lock()  # nothing is drawn while a mint holds it
        self._scope = anyio.CancelScope()
        self._strayed = False

    @property
    def exit_code(self) -> int:
        """1 if all tokens have ended and one has failed, else 0.

        After a signal it is 0, also if tokens have failed: who breaks the sandbox and heals it has seen what the demo
        is for, and `make` reports any other code as an error.
        """
        over = self._stories.over.is_set()
        return int(over and any(story.status == "failed" for story in self._stories.minted))

    async def end_at_a_signal(self) -> None:
        """End the demo at the first SIGINT, or one of `ending_signals`."""
        with anyio.open_signal_receiver(signal.SIGINT, *ending_signals()) as received:
            async for _ in received:
                self._scope.cancel()

    async def run(self, *, keep: bool) -> None:
        session = Session(self._dsn, name="reactor demo")
        try:
            with self._scope:
                await self._serve(session, keep=keep)
        finally:
            with anyio.move_on_after(2.0, shield=True):
                await session.aclose()
        if self._strayed:
            raise DemoError(STRAY)

    async def _serve(self, session: Session, *, keep: bool) -> None:
        await inspect(session, self._settings.tokens_table)
        await revisions.upgrade(self._dsn, table=self._settings.tokens_table)
        table = await discover(session, self._settings.tokens_table)
        async with self._sandbox.serve() as base_url:
            output = output_for(self._stories, Guide(f"http://{HOST}:{self._port}", base_url, self._shown_url))
            try:
                with output:
                    await self._perform(table, base_url, output)
            finally:
                await self._remove_waiting(session, table)
                output.summarise(keep=keep, cut_short=not self._stories.over.is_set())
            if keep:
                await anyio.sleep_forever()

    async def _perform(self, table: TokensTable, base_url: str, output: Lines) -> None:
        settings = self._settings.model_copy(update={"replicate_base_url": base_url})
        lifetime = settings.generation_timeout_seconds + settings.lease_seconds
        provider = ReplicateProvider(TOKEN, base_url=base_url, model_input=MODEL_INPUT, cancel_after=lifetime)
        looking = Session(self._dsn, name="reactor health")
        health = Health(looking, settings.tokens_table, slots=settings.worker_batch_size)
        telemetry = Telemetry(self._stories, health)
        worker = Worker(settings, provider, telemetry, self._redact, health=health)
        try:
            async with page(settings, telemetry, health, self._port), anyio.create_task_group() as group:
                group.start_soon(worker.run)
                group.start_soon(self._watch, output)
                await self._stories.listening.wait()
                await provider.check()  # imports the SDK and connects, as a worker did that runs for a while
                group.start_soon(self._mint, table)
                await self._stories.over.wait()
                await anyio.sleep(output.linger)
                group.cancel_scope.cancel()
        finally:
            self._read_ledger()
            with anyio.move_on_after(1.0, shield=True):
                await provider.aclose()
                await looking.aclose()

    async def _mint(self, table: TokensTable) -> None:
        """Mint as a backend does: one transaction for each mint of the script."""
        connection, _ = await connect(self._dsn, name="reactor demo mint")
        self._stories.began_at = time.monotonic()
        try:
            for mint in script(self._tokens, endless=self._endless):
                for fault in mint.faults:
                    self._sandbox.fail(fault)
                async with self._quiet:
                    async with connection.transaction():
                        rows = await connection.fetch(table.query("mint"), list(mint.prompts))
                        self._stories.begin([row["token_id"] for row in rows], mint.prompts)
                    await anyio.sleep(QUIET)
                await anyio.sleep(mint.pause)
        finally:
            connection.terminate()

    async def _watch(self, output: Lines) -> None:
        while True:
            async with self._quiet:
                self._read_ledger()
                output.update()
            await anyio.sleep(output.interval)

    def _read_ledger(self) -> None:
        for bought in self._sandbox.ledger[self._entered :]:
            self._stories.requested(bought.prompt, bought.requested_monotonic)
        self._entered = len(self._sandbox.ledger)

    async def _remove_waiting(self, session: Session, table: TokensTable) -> None:
        """Remove the tokens that still wait, so that no worker buys images for them."""
        waiting = [story.token_id for story in self._stories.minted if story.status != "uploading"]
        if waiting:
            with anyio.move_on_after(2.0, shield=True):
                await session.fetch(table.query("demo_forget"), waiting)

    def _stop_for_a_stray(self) -> None:
        self._strayed = True
        self._scope.cancel()


def _first(error: Exception) -> Exception:
    return _first(error.exceptions[0]) if isinstance(error, ExceptionGroup) else error
