"""Every pause and time limit of the worker."""

from __future__ import annotations

from dataclasses import dataclass

from reactor.backoff import reconnect_delay
from reactor.database.timings import CONNECTION_TIMINGS, ConnectionTimings


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Seconds, and one count. A `Worker` gets one and passes it to its parts; tests use shorter times."""

    # wake
    probe_every: float = 9.0  # ± a tenth; with `probe_within`, a deaf connection is noticed after 15 s at most
    probe_within: float = 5.0
    deaf_pause: float = 60.0  # between reconnects of a listener that never hears its probe: a pooler is in between
    full_for: float = 0.005  # that every slot must be taken before the watch is left; a shorter time is not worth it
    watch_every: float = 2.0  # between tries to take the watch, because a worker that dies on watch tells nobody
    stand_in: float = 5.0  # ± a fifth; until the sweep looks, after a ring that another worker has to answer
    strangers_apart: float = 1.0  # two looks at who holds a lock that are closer count as one
    stranger_looks: int = 5  # a count: after so many looks in which only strangers hold a lock, that is logged
    # Between two looks at the transactions under way: a mint waits at most an eighth longer than its transaction took.
    shortest_look: float = 0.002
    longest_look: float = 5.0
    # Between claims for a token that is due but locked by another session: twice as long each time.
    shortest_spin: float = 0.01
    longest_spin: float = 1.0

    # claim
    after_empty: float = 0.01  # between an empty claim and the next; limits the cost of forged NOTIFYs
    longest_onward: float = 1.0  # that claims of a backlog go on from its last token, before a claim from the front
    refused_token: float = 5.0  # until a token that the database refused is tried again; twice as long each time
    longest_refused_token: float = 300.0
    longest_between_rounds: float = 1.0  # of a detour, unless a round takes long

    # rights
    rights_every: float = 30.0  # between looks at what the role may do, if nothing is in doubt
    rights_apart: float = 1.0  # at least

    # leases and rescue
    longest_renewal: float = 3.0  # between renewals; a third of the lease if that is less
    longest_left_alone: float = 600.0  # for a token whose row cannot be written, until a rescue tries it again
    rescue_every: float = 2.5  # with a renewal every 3 s and 2 s overdue, a token runs again 8 s after its worker died
    # For a look, and for a statement that takes tokens over. The connection's own time limits are shorter.
    rescue_within: float = 15.0
    # After this worker was cut off from the database: other workers may have been too, and get time to renew.
    # After a restart of the server abandoned.sql waits as long by itself. But it does not notice a crashed backend, a
    # promoted standby or a broken network.
    steady_after: float = 10.0

    # generate
    sure_after: float = 10.0  # after a request, until a listing without its prediction is believed
    listing_every: float = 1.0  # between looks at the listing
    cancel_within: float = 5.0

    # settle
    answer_within: float = 5.0  # that a stop waits for the database's answer to an outcome or to a fallback's intent
    refused_result: float = 300.0  # until a result that the host's code refused is resumed; then 2 and 4 times as long
    longest_refused_result: float = 1200.0  # the provider keeps a result for an hour

    # gate
    check_every: float = 10.0  # between looks at the gate, and between checks of a refused API token
    breaker_pause: float = 5.0
    account_pause: float = 10.0  # credit bought "takes a few minutes" to count, and a probe costs nothing
    first_rest: float = 5.0  # of a worker that alone does not reach the provider; then twice as long each time
    longest_rest: float = 60.0

    # health
    health_every: float = 1.0  # for which an answer about the database is kept; a missing answer too

    # history
    prune_every: float = 60.0  # between looks for old entries
    prune_pause: float = 1.0  # between two steps while there are more

    # stop, drain, connections
    drain_every: float = 1.0  # between looks for unfinished tokens
    last_writes_within: float = 5.0  # after every attempt has ended
    first_reconnect: float = 0.1  # jittered; then twice as long each time
    longest_reconnect: float = 5.0
    close_idle_every: float = 10.0  # between looks for idle connections
    connections: ConnectionTimings = CONNECTION_TIMINGS

    def renewal(self, lease: float) -> float:
        """Seconds between renewals of a lease of `lease` seconds."""
        return min(lease / 3, self.longest_renewal)

    def reconnect_delay(self, failures: int) -> float:
        """Seconds before the next try to reach the database; see `backoff.py`."""
        return reconnect_delay(failures, first=self.first_reconnect, longest=self.longest_reconnect)


TIMINGS = Timings()
