"""The lengths and intensities of tortures."""

from dataclasses import dataclass, field

SLOTS = 8  # of each worker: few enough that at times all are taken and tokens wait


@dataclass(frozen=True, slots=True)
class Profile:
    """The numbers of tokens, workers and events. Durations are seconds."""

    tokens: int
    rate: float  # tokens a second
    workers: int
    lease: float
    timeout: float  # of one attempt
    events: dict[str, int] = field(default_factory=dict)
    drops: int = 0  # transactions of drop_size tokens
    drop_size: int = 0
    quiet_within: float = 60.0  # for all tokens to end, after the last mint and the last event
    # From `kill -9` to running again. Without a limit the seconds are only reported, because other work on the machine
    # decides them too.
    again_within: float = float("inf")

    @property
    def duration(self):
        return self.tokens / self.rate


PROFILES = {
    "ci": Profile(
        tokens=330,
        rate=10.0,
        workers=4,
        lease=6.0,
        timeout=18.0,
        events={
            "kill": 10,
            "stop": 2,
            "term": 1,
            "term-twice": 1,
            "restart": 1,
            "terminate": 1,
            "half-open": 1,
            "no-renewals": 2,
        },
        drops=1,
        drop_size=60,
    ),
    "full": Profile(
        tokens=10_000,
        rate=12.0,
        workers=6,
        lease=12.0,
        timeout=36.0,
        events={
            "kill": 180,
            "stop": 24,
            "term": 20,
            "term-twice": 10,
            "restart": 7,
            "terminate": 7,
            "half-open": 16,
            "no-renewals": 16,
            "hold": 8,
            "cut": 8,
        },
        drops=10,
        drop_size=150,
        quiet_within=300.0,
        again_within=10.0,
    ),
}
