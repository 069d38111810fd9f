"""Says which database privilege the worker lacks, and what row security hides from it: once, and again when it changes.

The privileges may be taken away while the worker runs. A claim by a role that lacks one is refused, or takes nothing,
so this check only says why. It looks when the database has denied a statement, when a claim found nothing although a
token is due, and now and then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from anyio import TASK_STATUS_IGNORED

from reactor import events
from reactor.database.connections import DatabaseError, DeniedError
from reactor.database.rights import RightsError, look_at_rights
from reactor.telemetry import Trouble
from reactor.text.messages import message_of

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from reactor.database.store import Store
    from reactor.engine.timings import Timings
    from reactor.engine.wake.wake import Wake
    from reactor.telemetry import Telemetry


class RightsCheck:
    """Looks at the role's rights, and rings the wake when they have changed."""

    def __init__(self, store: Store, wake: Wake, telemetry: Telemetry, *, timings: Timings) -> None:
        self._store = store
        self._wake = wake
        self._telemetry = telemetry
        self._timings = timings
        self._trouble = Trouble(telemetry, "rights")
        self._limit: str | None = None
        self._denied = False  # the database denied a statement, and the last look found no reason
        self._fault: str | None = None

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        """Look until cancelled. Started after the first look."""
        denied = None
        while True:
            await self._look(denied)
            task_status.started()
            task_status = TASK_STATUS_IGNORED  # a second `started` would be an error
            await anyio.sleep(self._timings.rights_apart)
            denied = await self._store.availability.doubted(self._timings.rights_every)

    async def faulty(self) -> bool:
        """Look now, and return whether the role can claim nothing: then there may be tokens that it does not see."""
        await self._look(None)
        return self._fault is not None

    async def _look(self, denied: str | None) -> None:
        """Look at the rights, and log what is new. `denied`: what the database said when it denied a statement."""
        try:
            rights = await look_at_rights(self._store.maintenance.fetch, self._store.table)
        except DeniedError as error:
            self._tell(message_of(error))
        except DatabaseError:
            return  # the parts that need the database log that it is away
        else:
            # The privilege may be back by now, so a denial that nothing explains is logged only if it is repeated.
            self._tell(rights.fault or (denied if self._denied else None))
            self._denied = bool(denied) and not rights.fault
            limit = None if rights.hidden else rights.row_security
            if limit and limit != self._limit:
                self._telemetry.emit(events.WORKER_RESTRICTED, error_message=limit)
            self._limit = limit

    def _tell(self, fault: str | None) -> None:
        if fault != self._fault:
            self._trouble.passed()
            self._wake.ring()
        self._fault = fault
        if fault:
            self._trouble.met(RightsError(fault))
