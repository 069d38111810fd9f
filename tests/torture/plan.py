"""What is minted and which events happen, and when: the same for the same seed."""

import random
from dataclasses import dataclass

FALLBACK = "a quiet meadow in soft morning light"

# What the provider does to some tokens: (how many of 1000, directive, whether the token must fail).
_DIRECTIVES = (
    (40, "run=3", False),
    (4, "429 retry_after=0.3 times=1", False),
    (10, "500 times=1", False),
    (10, "503 times=1", False),
    (10, "500 after=true times=1", False),
    (8, "502 times=1", False),
    (8, "502 after=true times=1", False),
    (8, "reset times=1", False),
    (10, "reset after=true times=1", False),
    (6, "close after=true times=1", False),
    (6, "malformed after=true times=1", False),
    (8, "lag=4; reset after=true times=1", False),
    (20, "nsfw", False),
    (10, "canceled times=1", False),
    (6, "aborted times=1", False),
    (10, "failed text=PA times=1", False),
    (6, "422", True),
    (4, "failed text=(E1001)", True),
    (4, "failed text=PA", True),
)
# Directives that take long. They are minted early, so that the end does not wait for them. LEASES: _LEASES leases.
_LONG = (
    (50, "run=LEASES", False),
    (4, "hang times=1", False),
    (4, "hang after=true times=1", False),
    (4, "stuck times=1", False),
)
# When these happen, as parts of their share of the time. No token is rescued in the ten seconds after them. They come
# late and one shortly after the other, which leaves time in which rescues can be measured.
_WHEN = {"restart": (0.7, 0.8), "terminate": (0.8, 0.9)}
_FIRST = 0.6  # the share of tokens, from the first on, that may be long ones
_LEASES = 2  # leases that a long prediction lasts: it may end while two workers believe that they hold its token


@dataclass(frozen=True, slots=True)
class Mint:
    """One transaction, `at` seconds after the start."""

    at: float
    token_ids: range


@dataclass(frozen=True, slots=True)
class Event:
    """A disturbance `at` seconds after the start, for `seconds`."""

    at: float
    kind: str
    slot: int
    seconds: float
    how: str


def _dice(what, seed):
    return random.Random(f"{what} {seed}")


def prompts(profile, seed):
    """The prompts by token_id, which starts at 1, and the ids of the tokens that must fail."""
    dice = _dice("prompts", seed)
    made, doomed = {}, set()
    for token_id in range(1, profile.tokens + 1):
        made[token_id] = f"picture {token_id}"
        early = token_id <= profile.tokens * _FIRST
        place = dice.uniform(0, 1000)
        for share, directive, fails in (*_DIRECTIVES, *_LONG):
            place -= share
            if place < 0:
                if early or (share, directive, fails) not in _LONG:
                    words = directive.replace("LEASES", str(_LEASES * profile.lease))
                    made[token_id] += f" [sandbox: {words}]"
                    doomed |= {token_id} if fails else set()
                break
    return made, doomed


def mints(profile, seed):
    """Every transaction of the producer: one token each at a steady rate, and a few drops of many tokens in between."""
    dice = _dice("mints", seed)
    tokens_in_drops = profile.drops * profile.drop_size
    drops_at = sorted(dice.uniform(0.1, 0.9) * profile.duration for _ in range(profile.drops))
    rate = (profile.tokens - tokens_in_drops) / profile.duration
    made, next_id, at = [], 1, 0.0
    while next_id <= profile.tokens:
        if drops_at and at >= drops_at[0]:
            drops_at.pop(0)
            size = min(profile.drop_size, profile.tokens - next_id + 1)
        else:
            size = 1
            at += 1 / rate
        made.append(Mint(at, range(next_id, next_id + size)))
        next_id += size
    return made


def events(profile, seed):
    """All events, in order. Each kind is spread over the whole time."""
    dice = _dice("events", seed)
    made = []
    for kind, times in profile.events.items():
        for place in range(times):
            at = 1 + (place + dice.uniform(*_WHEN.get(kind, (0.2, 0.8)))) / times * (profile.duration - 2)
            made.append(_event(dice, at, kind, place, profile))
    return sorted(made, key=lambda event: event.at)


def _event(dice, at, kind, place, profile):
    seconds, how = {
        "kill": (dice.uniform(0.0, 2.5), ""),
        "stop": (profile.lease + dice.uniform(0.5, 4.5), ""),
        "term": (0.0, ""),
        "term-twice": (dice.uniform(0.0, 0.4), ""),
        "restart": (dice.uniform(0.0, 1.5), ("immediate", "fast", "kill")[place % 3]),
        "terminate": (0.0, ""),
        "half-open": (profile.lease + dice.uniform(2.0, 6.0), ("both", "answers")[place % 2]),
        "no-renewals": (profile.lease + dice.uniform(4.0, 10.0), ""),
        "hold": (dice.uniform(1.0, profile.lease + 3.0), ""),
        "cut": (dice.uniform(0.2, 3.0), ""),
    }[kind]
    return Event(at, kind, dice.randrange(profile.workers), seconds, how)
