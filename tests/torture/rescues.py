"""How long after `kill -9` a token runs again: until another process raises its epoch."""

from collections import defaultdict
from dataclasses import dataclass, field

NO_RESCUE = 10.0  # seconds after all workers were cut off in which, by design, no token is rescued


@dataclass(frozen=True, slots=True)
class Kill:
    """A `kill -9`. `linked`: the server could notice the death at once."""

    at: float
    process: int
    linked: bool


@dataclass(slots=True)
class Rescues:
    """Seconds for each token that a killed worker held. Some wait longer, for reasons of the design (`excused`)."""

    counted: list[float] = field(default_factory=list)
    late: list[tuple[int, str]] = field(default_factory=list)  # the counted ones that took too long
    excused: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def rescues(kills, history, outages, again_within):
    """Measure every token that a process held when it was killed. One that never runs again is always late."""
    found = Rescues()
    by_process = defaultdict(set)
    for token_id, writes in history.items():
        for write in writes:
            by_process[write.process].add(token_id)
    for kill in kills:
        for token_id in by_process[kill.process]:
            held = _held(kill, history[token_id])
            if held is None:
                continue
            last, following = held
            seconds = following.at - kill.at if following else float("inf")
            excuse = _excuse(kill, last, outages)
            if excuse:
                found.excused[excuse].append(seconds)
                continue
            found.counted.append(seconds)
            if seconds > again_within or following is None:
                found.late.append(
                    (token_id, f"{seconds:.1f} s after process {kill.process} was killed at {kill.at:.3f}")
                )
    return found


def _held(kill, writes):
    """The killed process's last write and the write after it; None if the process did not hold the token then."""
    place = max(place for place, write in enumerate(writes) if write.process == kill.process)
    last, following = writes[place], writes[place + 1] if place + 1 < len(writes) else None
    lost_before = following is not None and following.at < kill.at
    return None if last.new_status != "generating" or lost_before else (last, following)


def _excuse(kill, last, outages):
    if any(begin - NO_RESCUE < kill.at < end + NO_RESCUE for begin, end in outages):
        return "every worker had been cut off"
    if last.new_worker < 0:
        return "its worker had no proven listener, so no lock"
    return None if kill.linked else "its worker's link had been broken"
