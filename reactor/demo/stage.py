"""The sandbox, the reactor and the mints in one event loop: in which order they start and stop."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import anyio
import asyncpg

from reactor.database.connections import ConnectionLostError, DatabaseError
from reactor.database.search_path import connect
from reactor.database.session import Session
from reactor.database.store import discover
from reactor.database.table import TableError
from reactor.demo.house import DemoError, inspect
from reactor.demo.screen import audience
from reactor.demo.script import script
from reactor.demo.stories import Stories
from reactor.engine.worker import Worker
from reactor.migrations import revisions
from reactor.migrations.migration_lock import MigrationError
from reactor.providers.replicate import ReplicateProvider
from reactor.sandbox import Sandbox, Timing
from reactor.settings import Settings
from reactor.telemetry import Telemetry
from reactor.text.messages import message_of, unreachable
from reactor.text.redaction import Redactor

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

    from reactor.database.table import TokensTable
    from reactor.demo.screen import Lines

TOKEN = "the-sandbox-takes-no-other"  # noqa: S105  (so that it would refuse a real one from the environment)
FALLBACK = "a quiet meadow in soft morning light, watercolour"
TIMING = Timing(queue=(0.1, 0.4), run=(0.4, 1.1))
HUSH = 0.04  # seconds after a COMMIT without drawing, because the drawing would be measured too
STRAY = "somebody else mints into this database: their token was handed back, and the demo stopped"
_FAULTS = (DatabaseError, TableError, MigrationError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)


class DemoSettings(Settings):
    """Settings that come neither from the environment nor from `.env`, where a real API token may be."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what is given, and the defaults."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings  # the signature is pydantic's
        return (init_settings,)


async def show(tokens: int, database_url: str, *, tokens_table: str = "tokens_s0", keep: bool = False) -> int:
    """Run until all `tokens` have ended, or a signal; `keep`: then serve the pictures on. Return the exit code.

    Raises DemoError, and SettingsError if the URL is not valid.
    """
    given = {"database_url": database_url, "tokens_table": tokens_table}
    settings = DemoSettings.load(**given, replicate_api_token=TOKEN, fallback_censored_prompt=FALLBACK, http_port=0)
    stage = Stage(settings, tokens)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(stage.obey_signals)
            await stage.perform(keep=keep)
            group.cancel_scope.cancel()
    except ExceptionGroup as errors:
        if (known := errors.subgroup((DemoError, *_FAULTS))) is None:
            raise
        first = _first(known)
        said = unreachable(first.__cause__ or first) if isinstance(first, ConnectionLostError) else message_of(first)
        raise DemoError(Redactor(settings.secrets())(said.split("\n")[0])) from errors
    return stage.exit_code


class Stage:
    def __init__(self, settings: Settings, tokens: int) -> None:
        self._settings = settings
        self._dsn = settings.database_url.get_secret_value()
        self._tokens = tokens
        self._redact = Redactor(settings.secrets())
        self._stories = Stories(tokens, self._stop_for_a_stray, self._redact)
        self._sandbox = Sandbox(TIMING, token=TOKEN)
        self._entered = 0  # how far the sandbox's ledger has been read
        self._hush = anyio.Lock()
        self._scope = anyio.CancelScope()
        self._strayed = False

    @property
    def exit_code(self) -> int:
        """1 if a token failed. It is 0 after a signal, which is a normal end: `make` complains of any other code."""
        return int(any(story.status == "failed" for story in self._stories.told))

    async def obey_signals(self) -> None:
        """End at the first SIGINT or SIGTERM."""
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
            async for _ in received:
                self._scope.cancel()

    async def perform(self, *, keep: bool) -> None:
        session = Session(self._dsn, name="reactor demo")
        try:
            with self._scope:
                await self._play(session, keep=keep)
        finally:
            with anyio.move_on_after(2.0, shield=True):
                await session.aclose()
        if self._strayed:
            raise DemoError(STRAY)

    async def _play(self, session: Session, *, keep: bool) -> None:
        await inspect(session, self._settings.tokens_table)
        await revisions.upgrade(self._dsn, table=self._settings.tokens_table)
        table = await discover(session, self._settings.tokens_table)
        async with self._sandbox.serve() as base_url:
            public = audience(self._stories, base_url)
            try:
                with public:
                    await self._act(table, base_url, public)
            finally:
                await self._leave(session, table)
                public.summarise(keep=keep, cut_short=not self._stories.over.is_set())
            if keep:
                await anyio.sleep_forever()

    async def _act(self, table: TokensTable, base_url: str, public: Lines) -> None:
        lifetime = self._settings.generation_timeout_seconds + self._settings.lease_seconds
        provider = ReplicateProvider(TOKEN, base_url=base_url, cancel_after=lifetime)
        worker = Worker(self._settings, provider, Telemetry(self._stories), self._redact)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(worker.run)
                group.start_soon(self._watch, public)
                await self._stories.listening.wait()
                await provider.check()  # imports the SDK and connects, as a worker has that ran for a while
                group.start_soon(self._mint, table)
                await self._stories.over.wait()
                await anyio.sleep(public.linger)
                group.cancel_scope.cancel()
        finally:
            self._read_ledger()
            with anyio.move_on_after(1.0, shield=True):
                await provider.aclose()

    async def _mint(self, table: TokensTable) -> None:
        """Do what the backend does: a transaction for each mint of the script."""
        connection, _ = await connect(self._dsn, name="reactor demo mint")
        self._stories.began_at = time.monotonic()
        try:
            for mint in script(self._tokens):
                for fault in mint.faults:
                    self._sandbox.fail(fault)
                async with self._hush:
                    async with connection.transaction():
                        rows = await connection.fetch(table.query("mint"), list(mint.prompts))
                        self._stories.begin([row["token_id"] for row in rows], mint.prompts)
                    await anyio.sleep(HUSH)
                await anyio.sleep(mint.pause)
        finally:
            connection.terminate()

    async def _watch(self, public: Lines) -> None:
        while True:
            async with self._hush:
                self._read_ledger()
                public.look()
            await anyio.sleep(public.every)

    def _read_ledger(self) -> None:
        for bought in self._sandbox.ledger[self._entered :]:
            self._stories.requested(bought.prompt, bought.requested_monotonic)
        self._entered = len(self._sandbox.ledger)

    async def _leave(self, session: Session, table: TokensTable) -> None:
        """Remove the tokens that still wait, so that no worker buys images for them."""
        waiting = [story.token_id for story in self._stories.told if story.status != "uploading"]
        if waiting:
            with anyio.move_on_after(2.0, shield=True):
                await session.fetch(table.query("demo_forget"), waiting)

    def _stop_for_a_stray(self) -> None:
        self._strayed = True
        self._scope.cancel()


def _first(error: Exception) -> Exception:
    return _first(error.exceptions[0]) if isinstance(error, ExceptionGroup) else error
