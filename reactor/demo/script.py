"""The mints and their times, and the faults on purpose. They are the same in each demo."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

from reactor.sandbox import Fault
from reactor.text.prompts import sample_prompts

if TYPE_CHECKING:
    from collections.abc import Iterator

# The tokens of one transaction, and the seconds until the next one: single mints, bursts, and several tokens at once.
_RHYTHM = (
    (1, 0.3), (1, 0.2), (1, 1.4), (4, 1.9), (1, 0.8), (2, 1.2),
    (1, 0.05), (1, 0.05), (1, 0.05), (1, 2.1), (6, 2.8),
)  # fmt: skip
_UNHURRIED = 50  # tokens; a demo with more tokens mints faster, at most _FASTEST times as fast
_FASTEST = 3.0
_EVERY = 15  # tokens; of each 15, the third fails once and the fifth is censored once
INTERRUPTED = "Prediction interrupted; please retry (code: PA)"


@dataclass(frozen=True, slots=True)
class Mint:
    """One transaction with a token for each prompt. `pause`: the seconds until the next transaction."""

    prompts: tuple[str, ...]
    faults: tuple[Fault, ...]
    pause: float


def script(tokens: int) -> Iterator[Mint]:
    prompts = unique_prompts(tokens)
    haste = min(max(tokens / _UNHURRIED, 1.0), _FASTEST)
    minted = 0
    for size, pause in cycle(_RHYTHM):
        places = range(minted, min(minted + size, tokens))
        faults = tuple(fault for place in places if (fault := _mishap(place, prompts[place])))
        minted += len(places)
        yield Mint(tuple(prompts[place] for place in places), faults, pause / haste)
        if minted == tokens:
            return


def unique_prompts(count: int) -> list[str]:
    """Prompts that are all different, because the sandbox's ledger knows a token only by its prompt."""
    seen: Counter[str] = Counter()
    prompts = []
    for prompt in sample_prompts(count):
        seen[prompt] += 1
        prompts.append(prompt if seen[prompt] == 1 else f"take {seen[prompt]}: {prompt}")
    return prompts


def _mishap(place: int, prompt: str) -> Fault | None:
    match place % _EVERY:
        case 2:
            return Fault("failed", match=prompt, times=1, text=INTERRUPTED)
        case 4:
            return Fault("nsfw", match=prompt, times=1)
    return None
