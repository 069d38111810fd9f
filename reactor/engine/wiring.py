"""Who is in a worker, and who talks to whom. How they run and stop is in `worker.py`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from reactor.engine.claim.dispatcher import Dispatcher
from reactor.engine.gate.announcer import Announcer
from reactor.engine.gate.breaker import Breaker
from reactor.engine.gate.checks import Checks, mark_of
from reactor.engine.gate.gate import Gate
from reactor.engine.gate.gate_store import GateStore
from reactor.engine.gate.inspector import Inspector
from reactor.engine.generate.attempt import Attempt, Rules
from reactor.engine.generate.attempts import Attempts
from reactor.engine.leases import Leases
from reactor.engine.rescuer import Rescuer
from reactor.engine.settle.settler import Settler
from reactor.engine.wake.bell import Bell
from reactor.engine.wake.listener import Listener
from reactor.engine.wake.sweep import Sweep
from reactor.telemetry import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactor.database.store import Store
    from reactor.engine.wake.wake import Wake
    from reactor.providers import Provider
    from reactor.settings import Settings
    from reactor.telemetry import Telemetry
    from reactor.tokens import Claim


class Wiring:
    """The roles of one worker, each made once."""

    def __init__(  # noqa: PLR0913  (what they have in common)
        self, settings: Settings, store: Store, provider: Provider, telemetry: Telemetry, wake: Wake, *, worker: int
    ) -> None:
        lease, claiming = settings.lease_seconds, asyncio.Lock()
        breaker = Breaker(settings.breaker_threshold)
        rules = _rules(settings)
        self.settler = Settler(store, telemetry, max_attempts=settings.max_attempts)
        self.sweep = Sweep(store, wake, Trouble(telemetry, "sweep"), every=settings.poll_interval_seconds)
        self.leases = Leases(
            store, self.sweep, Trouble(telemetry, "leases"), slots=settings.worker_batch_size, lease=lease
        )
        announcer = Announcer(telemetry)
        checks = Checks(mark_of(settings.replicate_api_token.get_secret_value()))
        gate_store = GateStore(store.upkeep, store.table.wake_channel, store.redact, checks)
        self.inspector = Inspector(gate_store, provider, announcer, telemetry, wake)
        self._gate = Gate(gate_store, breaker, announcer, telemetry, wake)
        self.bell = Bell(store.table, wake, self.sweep, telemetry)
        self.listener = Listener(_listen_dsn(settings), store, wake, self.bell, telemetry, worker=worker)

        def attempt(claim: Claim, probe: str | None, lease_runs: Callable[[], bool]) -> Attempt:
            return Attempt(
                claim,
                probe=probe,
                provider=provider,
                gate=self._gate,
                settler=self.settler,
                telemetry=telemetry,
                rules=rules,
                lease_runs=lease_runs,
            )

        def claimed(claim: Claim, probe: str | None) -> None:
            announcer.let_through(claim, probe)
            self.attempts.start(claim, probe)

        self.attempts = Attempts(
            attempt=attempt, leases=self.leases, settler=self.settler, telemetry=telemetry, rules=rules
        )
        self.rescuer = Rescuer(
            store,
            self.leases,
            breaker,
            telemetry,
            worker=lambda: self.listener.key,
            start=self.attempts.start,
            claiming=claiming,
            lease=lease,
        )
        self.dispatcher = Dispatcher(
            store,
            self.leases,
            breaker,
            telemetry,
            wake=wake,
            bell=self.bell,
            sweep=self.sweep,
            worker=lambda: self.listener.key,
            start=claimed,
            claiming=claiming,
        )


def _rules(settings: Settings) -> Rules:
    return Rules(
        fallback_prompt=settings.fallback_censored_prompt,
        default_prompt=settings.default_prompt,
        deadline=settings.generation_timeout_seconds,
        max_attempts=settings.max_attempts,
        count_rate_limits=settings.count_rate_limits,
    )


def _listen_dsn(settings: Settings) -> str:
    return (settings.listen_database_url or settings.database_url).get_secret_value()
