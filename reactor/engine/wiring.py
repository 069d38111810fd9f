"""Makes the parts of a worker and connects them. `worker.py` starts and stops them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from reactor.database.accounting import Accounting
from reactor.engine.claim.claimer import Claimer
from reactor.engine.claim.dispatcher import Dispatcher
from reactor.engine.claim.idle import Idle
from reactor.engine.gate.announcer import Announcer
from reactor.engine.gate.breaker import Breaker
from reactor.engine.gate.checks import Checks
from reactor.engine.gate.gate import Gate
from reactor.engine.gate.gate_store import GateStore
from reactor.engine.gate.inspector import Inspector
from reactor.engine.generate.attempt import Attempt, Rules
from reactor.engine.generate.attempts import Attempts
from reactor.engine.leases import Leases
from reactor.engine.pruner import Pruner
from reactor.engine.rescuer import Rescuer
from reactor.engine.rights import RightsCheck
from reactor.engine.settle.settler import Settler
from reactor.engine.wake.bell import Bell
from reactor.engine.wake.listener import Listener
from reactor.engine.wake.sweep import Sweep
from reactor.telemetry import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactor.database.store import Store
    from reactor.engine.timings import Timings
    from reactor.engine.wake.wake import Wake
    from reactor.providers import Provider
    from reactor.settings import Settings
    from reactor.telemetry import Telemetry
    from reactor.tokens import Claim


class Wiring:
    """The parts of one worker, each made once."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        provider: Provider,
        telemetry: Telemetry,
        wake: Wake,
        *,
        worker: int,
        timings: Timings,
    ) -> None:
        self._settings, self._store, self._provider = settings, store, provider
        self._telemetry, self._wake, self._timings = telemetry, wake, timings
        self._claiming = asyncio.Lock()  # held by the dispatcher or the rescuer while it takes tokens into free slots
        self._breaker = Breaker(settings.breaker_threshold, timings=timings)
        self._announcer = Announcer(telemetry)
        gate_store = GateStore(store.maintenance, store.table.wake_channel, store.redact, _checks(settings))
        self.rights = RightsCheck(store, wake, telemetry, timings=timings)
        self.settler = Settler(store, telemetry, max_attempts=settings.max_attempts, timings=timings)
        self.pruner = Pruner(store, Trouble(telemetry, "pruner"), days=settings.history_days, timings=timings)
        self.sweep = self._sweep()
        self.leases = self._leases()
        self.bell = Bell(store.table, wake, self.sweep, telemetry, timings=timings)
        self.listener = Listener(settings.listening, store, wake, self.bell, telemetry, worker=worker, timings=timings)
        self.inspector = self._inspector(gate_store)
        gate = Gate(gate_store, self._breaker, self._announcer, telemetry, wake, timings=timings)
        self.attempts = self._attempts(gate)
        self.rescuer = self._rescuer()
        self.dispatcher = self._dispatcher()

    def _sweep(self) -> Sweep:
        return Sweep(
            self._store,
            self._wake,
            Trouble(self._telemetry, "sweep"),
            every=self._settings.poll_interval_seconds,
            timings=self._timings,
        )

    def _leases(self) -> Leases:
        return Leases(
            self._store,
            self.sweep,
            Trouble(self._telemetry, "leases"),
            slots=self._settings.worker_batch_size,
            lease=self._settings.lease_seconds,
            timings=self._timings,
        )

    def _inspector(self, gate_store: GateStore) -> Inspector:
        return Inspector(
            gate_store,
            self._provider,
            self._announcer,
            self._telemetry,
            self._wake,
            every=self._timings.check_every,
            budget=self._settings.daily_budget,
        )

    def _rescuer(self) -> Rescuer:
        return Rescuer(
            self._store,
            self.leases,
            self._telemetry,
            room=self._room,
            worker=self._key,
            start=self._start,
            claiming=self._claiming,
            lease=self._settings.lease_seconds,
            timings=self._timings,
        )

    def _attempts(self, gate: Gate) -> Attempts:
        rules = _rules(self._settings)

        def attempt(claim: Claim, probe: str | None, lease_runs: Callable[[], bool]) -> Attempt:
            return Attempt(
                claim,
                probe=probe,
                provider=self._provider,
                gate=gate,
                settler=self.settler,
                telemetry=self._telemetry,
                rules=rules,
                lease_runs=lease_runs,
                timings=self._timings,
            )

        return Attempts(
            attempt=attempt, leases=self.leases, settler=self.settler, telemetry=self._telemetry, rules=rules
        )

    def _dispatcher(self) -> Dispatcher:
        return Dispatcher(
            Claimer(self._store, self._telemetry, timings=self._timings),
            Idle(
                wake=self._wake,
                bell=self.bell,
                sweep=self.sweep,
                leases=self.leases,
                breaker=self._breaker,
                availability=self._store.availability,
                timings=self._timings,
            ),
            self._telemetry,
            wake=self._wake,
            room=self._room,
            worker=self._key,
            start=self._start_claimed,
            claiming=self._claiming,
        )

    def _room(self) -> int:
        """How many tokens may start now."""
        return self._breaker.room(self.leases.free)

    def _key(self) -> int:
        return self.listener.key

    def _start(self, claim: Claim, probe: str | None = None) -> None:
        self._breaker.remember_trial(claim.fence)
        self.attempts.start(claim, probe)

    def _start_claimed(self, claim: Claim, probe: str | None) -> None:
        self._announcer.let_through(claim, probe)
        self._start(claim, probe)


def accounting_of(settings: Settings) -> Accounting:
    """What a worker with these settings accounts for."""
    model, price = settings.replicate_model_version, settings.price_per_image
    return Accounting(model=model, price=price, history=settings.history_days > 0, budget=settings.daily_budget)


def _rules(settings: Settings) -> Rules:
    return Rules(
        fallback_prompt=settings.fallback_censored_prompt,
        default_prompt=settings.default_prompt,
        deadline=settings.generation_timeout_seconds,
        max_attempts=settings.max_attempts,
        count_rate_limits=settings.count_rate_limits,
    )


def _checks(settings: Settings) -> Checks:
    return Checks(settings.secret("replicate_api_token"))
