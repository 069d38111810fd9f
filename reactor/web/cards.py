"""What the page shows of one token: a placeholder, a picture or a reason, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from reactor.operations.verdict import PROVIDER_KEEPS
from reactor.web.render import is_link

if TYPE_CHECKING:
    from reactor.operations.story import Caption
    from reactor.operations.tokens import Token

Kind = Literal["waiting", "working", "picture", "gone", "failed", "other"]
_State = tuple[Kind, str, "float | None", 'Literal["up", "down"] | None']  # kind, words, seconds, counts
LONGEST_ALT = 140  # characters
_WORDS = {"detected": "waiting", "generating": "being made", "uploading": "image is there"}


@dataclass(frozen=True, slots=True)
class Card:
    """`counts`: "up" from `seconds`, or "down" from them; None: they stand still."""

    token_id: int | str
    status: str
    kind: Kind
    words: str
    seconds: float | None
    counts: Literal["up", "down"] | None
    source: str | None  # of the picture
    prompt: str
    attempts: int
    censored: bool
    error: str | None

    @property
    def alt(self) -> str:
        """What the picture shows, as far as we know: the prompt."""
        return shortened(self.prompt, LONGEST_ALT) or f"the image of token {self.token_id}"


def card_of(token: Token, caption: Caption, pictures: str | None) -> Card:
    """The card of a token. `pictures`: see picture_source."""
    source = token.image_url if can_be_shown(token.image_url, pictures) else None
    kind, words, seconds, counts = _state(token, caption, source)
    return Card(
        token_id=token.token_id,
        status=token.status,
        kind=kind,
        words=words,
        seconds=seconds,
        counts=counts,
        source=source if kind == "picture" else None,
        prompt=caption.prompt or "",
        attempts=token.attempts or 0,
        censored=token.censored,
        error=token.error,
    )


def _state(token: Token, caption: Caption, source: str | None) -> _State:
    shown: Kind = "picture" if source else "other"
    state: _State = shown, _WORDS.get(token.status, token.status), None, None
    if token.status == "detected":
        waits, tries = caption.minted_for, caption.due_in
        state = ("waiting", "tries again in", tries, "down") if tries is not None else _since("waiting", "waits", waits)
    elif token.status == "generating":
        state = _since("working", "being made", caption.image_for)
    elif token.status == "failed":
        state = "failed", "failed", None, None
    elif token.status == "uploading" and caption.image_for is not None:
        left = PROVIDER_KEEPS - caption.image_for
        gone: _State = "gone", "left the provider; nobody took it", None, None
        state = (shown, "expires in", left, "down") if left > 0 else gone
    return state


def _since(kind: Kind, words: str, seconds: float | None) -> _State:
    """A state that goes on; without its time if that is not known."""
    if seconds is None:
        return kind, words, None, None
    return kind, f"{words} for" if kind == "waiting" else words, max(0.0, seconds), "up"


def can_be_shown(url: str | None, pictures: str | None) -> bool:
    """Whether a browser may load the image: over https, or from a provider on this machine."""
    if is_link(url):
        return True
    if pictures is None or not url or not url.isprintable():
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return f"{parts.scheme}://{parts.netloc}" == pictures


def shortened(text: str, longest: int) -> str:
    """The text on one line, cut at a word."""
    line = " ".join(text.split())
    if len(line) <= longest:
        return line
    return f"{line[: longest - 1].rsplit(' ', 1)[0]}…"
