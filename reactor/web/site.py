"""What the page and the API share: the database, the actions, the readers, and the worker of this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reactor.operations.story import story_of
from reactor.web.actions import Actions
from reactor.web.changes import STREAMS, Changes
from reactor.web.headers import picture_source
from reactor.web.reads import Reads

if TYPE_CHECKING:
    from reactor.engine.health import Health
    from reactor.operations.story import Story
    from reactor.settings import Settings
    from reactor.telemetry import Telemetry
    from reactor.web.changes import StreamTimings


class Site:
    """`health`: of the worker in this process, if there is one. `can_sign_out`: readers have a cookie of ours.

    Close it in the end, because it has connections to the database.
    """

    def __init__(
        self,
        settings: Settings,
        telemetry: Telemetry,
        health: Health | None = None,
        *,
        can_sign_out: bool = False,
        streams: StreamTimings = STREAMS,
    ) -> None:
        self.reads = Reads(settings)
        self.actions = Actions(self.reads, telemetry)
        self.changes = Changes(self.reads, streams)
        self.health = health
        if health is not None:
            health.close_idle_too(self.reads.close_idle)
        self.pictures = picture_source(settings.replicate_base_url)
        self.poll_interval = settings.poll_interval_seconds
        self.model = settings.replicate_model_version
        self.can_sign_out = can_sign_out

    async def aclose(self) -> None:
        """End all streams, and close the connections."""
        self.changes.end()
        await self.reads.aclose()

    def here(self) -> dict[str, Any]:
        """The facts about the worker in this process, which only it knows."""
        if self.health is None:
            return {}
        health = self.health
        slots = {"in_use": health.in_use, "of": health.slots}
        return {"worker": {"listener": health.listener, "proven_seconds": health.proven_seconds, "slots": slots}}

    async def story(self, token_id: str) -> Story | None:
        """All about one token; None if there is none."""

        async def work() -> Story | None:
            return await story_of(self.reads.session, await self.reads.table(), token_id)

        return await self.reads.within(work) if 0 < len(token_id) <= 100 and "\x00" not in token_id else None
