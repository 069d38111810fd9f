"""Finds the parts of a prompt that a text repeats, in any spelling, and blanks them out.

A prompt belongs to its author: neither the table's errors nor the log may show it. The provider's messages may repeat
it, whole or in parts, in another case, or escaped (spellings.py). Three rules find it:

1. RUN bytes in a row of its normal form, from any place in it.
2. The whole prompt, if its normal form is shorter than RUN, where it stands as separate words.
3. Most of its words, in any order: then only codes such as E005 are kept of the text.

A prompt that the provider encodes on purpose (rot13, another language) is not found. The time is linear in the text and
the prompts. Only the first MOST_READ characters of a text are read, and of them as many as fit into MOST_BYTES of the
normal form; the rest is dropped.
"""

from __future__ import annotations

import re
from functools import cached_property
from itertools import filterfalse
from typing import TYPE_CHECKING
from unicodedata import combining, normalize

from reactor.text.spellings import cut, normal, spelled, unescaped
from reactor.tokens import LONGEST_PROMPT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reactor.text.spellings import Spelled

MOST_READ = 4000  # characters
MOST_BYTES = 8000  # of the normal form: one character may become nine bytes
RUN = 12  # bytes of the normal form
BLANK = "[prompt]"
_SHORTEST = 3  # bytes of the normal form: a prompt like "ox" need not be hidden
_SHORTEST_VERBATIM = 5  # characters, letters or not, of a prompt that is searched without a normal form
_LEAST_WORDS = 4  # in a prompt, for rule 3
SHORT_TEXT = 300  # characters
_ESCAPES = "\\%&"  # each escape in a text has one of these
_WORD = re.compile(r"[^\W_]{4,}")
_RANDOM_ID = re.compile(r"[a-z0-9]{26}")  # the ids that the API makes
_CODE = re.compile(r"\(?\bE\d{3,4}\b\)?")
_IS_A_CODE = re.compile(r"e\d{3,4}|nsfw")  # as a prompt it is not hidden, because the text would lose its meaning


class Echoes:
    """Blanks out the parts of these prompts that a text repeats."""

    def __init__(self, *prompts: str | None) -> None:
        cut_prompts = (prompt[:LONGEST_PROMPT].strip() for prompt in prompts if prompt)
        self._prompts = list(dict.fromkeys(filter(None, cut_prompts)))

    def also(self, prompt: str | None) -> Echoes:
        """The same for one more prompt."""
        return Echoes(*self._prompts, prompt)

    def hide(self, text: str) -> str:
        """The text without any echo, to be stored or logged."""
        text = text[:MOST_READ]
        if not self._prompts:
            return text
        text = cut(text, MOST_BYTES)
        shown = self._blanked(text, codes=False)
        return " ".join((BLANK, *_CODE.findall(shown)[:3])) if self._scattered(shown) else shown

    def without(self, text: str) -> str:
        """The text's own words, to be classified. A prompt that is only a code is blanked out too."""
        text = text[:MOST_READ]
        return self._blanked(cut(text, MOST_BYTES), codes=True) if self._prompts else text

    def in_word(self, word: str) -> bool:
        """Whether a single word of ASCII (an id, a status) repeats a prompt.

        A random id may contain a short prompt by chance, so only rule 1 counts there.
        """
        return self._has_run(normal(word)) if _RANDOM_ID.fullmatch(word) else self.hide(word) != word

    def _has_run(self, form: str) -> bool:
        runs = [form[place : place + RUN] for place in range(len(form) - RUN + 1)]
        return any(run in prompt for prompt in self._forms if len(prompt) >= RUN for run in runs)

    @cached_property
    def _forms(self) -> list[str]:
        return [normal(prompt) for prompt in self._prompts]

    @cached_property
    def _runs(self) -> frozenset[str]:
        return frozenset(form[place : place + RUN] for form in self._forms for place in range(len(form) - RUN + 1))

    @cached_property
    def _short(self) -> list[str]:
        return [form for form in self._forms if _SHORTEST <= len(form) < RUN]

    def _blanked(self, text: str, *, codes: bool) -> str:
        if self._is_clean(text):
            return text
        pieces: list[str] = []
        done = 0
        for begin, end in sorted(self._echoes(text, codes=codes)):
            if begin > done or not pieces:
                pieces += [text[done:begin], BLANK]
            done = max(done, end)
        return "".join((*pieces, text[done:])) if pieces else text

    def _is_clean(self, text: str) -> bool:
        """Whether a short text certainly repeats nothing: a cheap test, for the id and URL of every prediction."""
        if len(text) > SHORT_TEXT or any(sign in text for sign in _ESCAPES):
            return False
        form = normal(text)
        verbatim = any(prompt in text for prompt in self._prompts)
        return not (verbatim or self._has_run(form) or any(short in form for short in self._short))

    def _echoes(self, text: str, *, codes: bool) -> Iterator[tuple[int, int]]:
        """The echoes, as spans of the text. With `codes`, those of a prompt that is only a code are included."""
        short = [form for form in self._short if codes or not _IS_A_CODE.fullmatch(form)]
        yield from self._verbatim(text)
        views = [spelled(text)]
        if any(sign in text for sign in _ESCAPES):
            views.append(unescaped(text))
        for view in views:
            yield from self._repeated_runs(view)
            yield from _repeated_words(view, short)

    def _verbatim(self, text: str) -> Iterator[tuple[int, int]]:
        for prompt in self._prompts:
            place = text.find(prompt) if len(prompt) >= _SHORTEST_VERBATIM else -1
            while place >= 0:
                yield place, place + len(prompt)
                place = text.find(prompt, place + len(prompt))

    def _repeated_runs(self, view: Spelled) -> Iterator[tuple[int, int]]:
        normal, runs = view.normal, self._runs
        begin, end = 0, 0  # of one echo: runs that overlap or touch
        for place in range(len(normal) - RUN + 1):
            if normal[place : place + RUN] in runs:
                if place > end:
                    if end:
                        yield view.starts[begin], view.ends[end - 1]
                    begin = place
                end = place + RUN
        if end:
            yield view.starts[begin], view.ends[end - 1]

    def _scattered(self, text: str) -> bool:
        """Whether most words of one prompt are still in the text, blanks aside."""
        left = _words(text.replace(BLANK, " "))
        if len(left) < _LEAST_WORDS - 1:
            return False
        wanted = map(_words, self._prompts)
        return any(len(words) >= _LEAST_WORDS and 2 * len(words & left) > len(words) for words in wanted)


def _words(text: str) -> set[str]:
    """The longer words of a text, without accents."""
    plain = text if text.isascii() else "".join(filterfalse(combining, normalize("NFKD", text)))
    return set(_WORD.findall(normalize("NFC", plain).casefold()))


def _repeated_words(view: Spelled, forms: list[str]) -> Iterator[tuple[int, int]]:
    for form in forms:
        place = view.normal.find(form)
        while place >= 0:
            if _is_word(view, place, place + len(form)):
                yield view.starts[place], view.ends[place + len(form) - 1]
            place = view.normal.find(form, place + 1)


def _is_word(view: Spelled, begin: int, end: int) -> bool:
    """Whether the span begins and ends at a word's border.

    Beside a character beyond ASCII there always is one, because many scripts are written without spaces.
    """
    goes_on = end < len(view.normal) and end not in view.words and view.normal[end] < "\x80"
    return (begin in view.words or view.normal[begin] >= "\x80") and not goes_on
