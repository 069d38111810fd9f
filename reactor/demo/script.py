"""The mints and their times, and the faults on purpose. They are the same in each demo."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count, cycle, islice
from typing import TYPE_CHECKING

from reactor.sandbox import Fault
from reactor.text.prompts import SAMPLES, sample_prompts

if TYPE_CHECKING:
    from collections.abc import Iterator

# The tokens of one transaction, and the seconds until the next one: single mints, bursts, and several tokens at once.
_RHYTHM = (
    (1, 0.3), (1, 0.2), (1, 1.4), (4, 1.9), (1, 0.8), (2, 1.2),
    (1, 0.05), (1, 0.05), (1, 0.05), (1, 2.1), (6, 2.8),
)  # fmt: skip
_UNHURRIED = 50  # tokens; a demo with more tokens mints faster, at most _FASTEST times as fast
_FASTEST = 3.0
_NOW_AND_THEN = 3.0  # seconds between mints after those of the script
_EVERY = 15  # tokens; of each 15, the third fails once and the fifth is censored once
INTERRUPTED = "Prediction interrupted; please retry (code: PA)"


@dataclass(frozen=True, slots=True)
class Mint:
    """One transaction with a token for each prompt. `pause`: the seconds until the next transaction."""

    prompts: tuple[str, ...]
    faults: tuple[Fault, ...]
    pause: float


def script(tokens: int, *, endless: bool = False) -> Iterator[Mint]:
    """The mints of so many tokens; `endless`: then one now and then, without end."""
    following = _all_prompts()
    prompts = list(islice(following, tokens))
    haste = min(max(tokens / _UNHURRIED, 1.0), _FASTEST)
    minted = 0
    for size, pause in cycle(_RHYTHM):
        places = range(minted, min(minted + size, tokens))
        faults = tuple(fault for place in places if (fault := _mishap(place, prompts[place])))
        minted += len(places)
        yield Mint(tuple(prompts[place] for place in places), faults, pause / haste)
        if minted == tokens:
            break
    for place, prompt in zip(count(tokens), following, strict=False) if endless else ():
        fault = _mishap(place, prompt)
        yield Mint((prompt,), (fault,) if fault else (), _NOW_AND_THEN)


def unique_prompts(count: int) -> list[str]:
    """Prompts that are all different, because the sandbox's ledger knows a token only by its prompt."""
    return list(islice(_all_prompts(), count))


def _all_prompts() -> Iterator[str]:
    """Prompts without end, all different."""
    for take in count(1):
        for prompt in sample_prompts(SAMPLES):
            yield prompt if take == 1 else f"take {take}: {prompt}"


def _mishap(place: int, prompt: str) -> Fault | None:
    match place % _EVERY:
        case 2:
            return Fault("failed", match=prompt, times=1, text=INTERRUPTED)
        case 4:
            return Fault("nsfw", match=prompt, times=1)
    return None
