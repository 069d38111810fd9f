"""How long we wait for a connection, and how long we keep it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionTimings:
    """Seconds. `Session` and `dial` get one; tests use shorter times."""

    connect_within: float = 5.0
    answer_within: float = 10.0  # the client's limit, a little above the server's, so that the server rolls back first
    statement_timeout: float = 8.0  # the server's, for a statement and for each of its locks
    lock_timeout: float = 2.0
    proven_for: float = 5.0  # without a statement, after which a connection may be lost without our knowledge
    idle_after: float = 60.0  # without a statement, after which a connection is closed
    crowded_for: float = 10.0  # until a session looks again whether the server has connections left


CONNECTION_TIMINGS = ConnectionTimings()
