"""A reactor that runs inside another application: what `running` gives, and what `page` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from reactor.web import mounted

if TYPE_CHECKING:
    from uuid import UUID

    from starlette.types import ASGIApp

    from reactor.supervisor import Supervisor
    from reactor.waits import Waits
    from reactor.web import Site


class Running:
    """A reactor in this process."""

    def __init__(self, supervisor: Supervisor, waits: Waits, site: Site) -> None:
        self._supervisor = supervisor
        self._waits = waits
        self._site = site
        self.app: ASGIApp = mounted(site)  # see `page`

    async def wait_for(self, token_id: int | str | UUID) -> dict[str, Any]:
        """Wait until a token has its image or has failed, whichever worker does it; return its row.

        `token_id` is its number or its key. The row has, among others, token_id, id, status, image_url, error, attempts
        and seed. Raises LookupError for a token that is not there (or not committed), TableError before the migration.
        It waits without end: put it into a timeout of your own.
        """
        return await self._waits.settled(token_id)

    async def status(self) -> dict[str, Any]:
        """What `reactor status --json` says, and this process's worker. Raises DatabaseError, TableError."""
        state = await self._site.reads.overview()
        return {**state.as_json(), **self._site.here()}

    async def stop(self) -> None:
        """Stop claiming, let attempts finish within SHUTDOWN_GRACE_SECONDS, and return once the worker has stopped."""
        self._supervisor.stop()
        await self._supervisor.ended.wait()

    async def aclose(self) -> None:
        """Close the connections of the page and of those who wait."""
        with anyio.move_on_after(1.0, shield=True):
            await self._waits.aclose()
            await self._site.aclose()
