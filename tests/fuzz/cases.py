"""What is minted, and the provider's answers: values that can be printed, in which names stand for long texts.

In a text `«as JSON»` stands for the token's prompt in that spelling, `«token»` for the API token, and `«1000 * ab»` for
1,000 characters of repeated `ab`.
"""

import gzip
import html
import json
import re
import zlib
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import quote

from hypothesis import strategies as st
from test_foreign_costs import UNITS

MARK = "«mark»"  # in a prompt: stands for the words that identify the prompt
FORMS = {
    "as it is": str,
    "in capitals": str.upper,
    "as JSON": json.dumps,
    "as ASCII": ascii,
    "as HTML": html.escape,
    "as numbers": lambda text: "".join(f"&#{ord(each)};" for each in text),
    "in a URL": quote,
    "with dashes": "-".join,
    "its middle": lambda text: text[len(text) // 4 : -len(text) // 4 or None],
}
RAW = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "half a surrogate": b'{"id": "p1", "status": "failed", "error": "\\ud800"}',
    "not UTF-8": b'{"id": "p1", "status": "failed", "error": "\xff\xfe"}',
    "a byte order mark": b'\xef\xbb\xbf{"id": "p1", "status": "processing"}',
    "a long number": b'{"id": ' + b"9" * 5000 + b"}",
    "deep": b"[" * 900_000,
    "wide": b'{"results": [' + b"[]," * 600_000 + b"[]]}",
    "many keys": b"{" + b",".join(b'"%d":{}' % number for number in range(60_000)) + b"}",
    "spaces": b" " * 2_000_000,
    "an error page": b"<html><h1>" + b"<b>" * 300_000,
}
PACKED = {"gzip": 1, "three gzips": 3}


@cache
def packed(times):
    """100 MB of zeros, compressed `times` times."""
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS + 16)
    content = b"".join(packer.compress(bytes(1_000_000)) for _ in range(100)) + packer.flush()
    return gzip.compress(packed(times - 1)) if times > 1 else content


@dataclass(frozen=True)
class Reply:
    """One answer of the provider: JSON, or the name of raw bytes. `cut`: it breaks off in the middle."""

    status: int
    body: object
    headers: dict = field(default_factory=dict)
    cut: bool = False


@dataclass(frozen=True)
class Token:
    """A row, its author's prompt (repeated `times` times), and the answers to its creates and looks, in order."""

    prompt: str
    times: int = 1
    columns: dict = field(default_factory=dict)  # SQL by name
    creates: tuple = ()
    looks: tuple = ()


@dataclass(frozen=True)
class Case:
    tokens: tuple
    pages: tuple = ()  # answers to the listing
    accounts: tuple = ()


def written(text, prompt, secret):
    """The text with its names replaced."""
    for name, form in FORMS.items():
        if f"«{name}»" in text:
            text = text.replace(f"«{name}»", form(prompt))
    text = text.replace("«token»", secret)
    return re.sub(r"«(\d+) \* (.*?)»", lambda found: found[2] * (int(found[1]) // len(found[2])), text, flags=re.DOTALL)


PLAIN = st.text(st.characters(exclude_categories=()), max_size=30)
SHORT = [unit for unit in UNITS if len(unit) < 40]
LONG = st.builds("«{} * {}»".format, st.sampled_from([50, 5_000, 500_000, 1_500_000]), st.sampled_from(SHORT))
ECHO = st.sampled_from([f"«{name}»" for name in FORMS] + ["«token»"])
KNOWN = st.sampled_from(["NSFW content", "(E005)", "CUDA out of memory", "please retry (code: PA)", "rate limit", "x"])
TEXTS = st.one_of(KNOWN, PLAIN, LONG, ECHO, st.builds("{}: {}! {}".format, KNOWN, ECHO, LONG | PLAIN))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4))
STATUSES = st.sampled_from(["starting", "processing", "succeeded", "failed", "canceled", "aborted", "new"])
OUTPUTS = st.sampled_from(["https://a.example/b.webp", "data:image/png;base64,AAAA", "javascript:0", "http://a/\x1b"])
PREDICTIONS = st.fixed_dictionaries(
    {"id": st.just("«id»") | TEXTS, "status": STATUSES | VALUES},
    optional={
        "error": VALUES,
        "output": OUTPUTS | st.lists(OUTPUTS | st.none(), max_size=3) | VALUES,
        "input": VALUES,
        "created_at": TEXTS,
        "completed_at": TEXTS,
        "deadline": TEXTS,
        "metrics": VALUES,
        "urls": VALUES,
        "data_removed": SCALARS,
    },
)
FIELDS = st.lists(st.fixed_dictionaries({"field": VALUES, "description": VALUES}), max_size=4)
PROBLEMS = st.fixed_dictionaries(
    {},
    optional={"title": VALUES, "detail": VALUES, "status": SCALARS, "invalid_fields": FIELDS | VALUES, "error": VALUES},
)
PAGES = st.fixed_dictionaries({}, optional={"results": st.lists(PREDICTIONS, max_size=3) | VALUES, "next": TEXTS})
HEADER = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=20)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "retry-after": st.sampled_from(["0", "1", "-1", "1e999", "nan", "Mon, 01 Jan 2026 00:00:00 GMT"]) | HEADER,
        "date": HEADER,
        "content-type": HEADER,
        "content-encoding": st.sampled_from(["gzip", "deflate", "br", "gzip, gzip", "identity"]),
        "location": st.just("http://127.0.0.1:1/"),
    },
)
CODES = st.sampled_from([200, 201, 202, 204, 302, 400, 401, 402, 403, 404, 408, 409, 422, 429, 451, 500, 502, 503, 504])
NAMED = st.sampled_from([*RAW, *PACKED])


def replies(bodies):
    """Answers with these bodies, or with raw ones."""
    return st.builds(Reply, CODES | st.just(201), bodies | NAMED, HEADERS, st.sampled_from([False, False, True]))


REPLIES = replies(PREDICTIONS | PROBLEMS | VALUES)
PROMPTS = st.builds(lambda before, after: f"{before} {MARK} {after}", PLAIN, PLAIN | st.sampled_from(SHORT)).map(
    lambda text: re.sub("[\0\ud800-\udfff]", "", text)
)
FOREVER = ["'infinity'", "'-infinity'", "'20000-01-01'", "'4000-01-01 BC'", "now() - interval '11 months'", "now()"]
BIG = ["9223372036854775807", "-9223372036854775808", "0"]
COLUMNS = st.fixed_dictionaries(
    {},
    optional={
        "mint_timestamp": st.sampled_from(FOREVER),
        "created_at": st.sampled_from(FOREVER),
        "generation_due_at": st.sampled_from(FOREVER[1:]),
        "generation_seeded_at": st.sampled_from(FOREVER),
        "generation_seed": st.sampled_from(["0", "7", "2147483647"]),
        "generation_epoch": st.sampled_from(BIG),
        "generation_attempts": st.sampled_from(["0", "7", "2147483647"]),
        "generation_rescues": st.sampled_from(["0", "2147483647"]),
        "generation_prediction_id": st.sampled_from(["'p7'", "'../account'", "''", "repeat('y', 1000000)"]),
        "generation_error": st.just("repeat(U&'\\001b', 1000)"),
        "image_url": st.just("repeat('x', 1000000)"),
    },
)
ROWS = st.just({}) | COLUMNS
TOKENS = st.builds(
    Token,
    PROMPTS,
    st.sampled_from([1, 1, 1, 1000, 1_000_000]),
    ROWS,
    st.lists(REPLIES, min_size=1, max_size=2).map(tuple),
    st.lists(REPLIES, max_size=2).map(tuple),
)
CASES = st.builds(
    Case,
    st.lists(TOKENS, min_size=1, max_size=3).map(tuple),
    st.lists(replies(PAGES | PROBLEMS), max_size=2).map(tuple),
    st.lists(replies(VALUES), max_size=1).map(tuple),
)


def failing(error):
    """A look's answer: the prediction has failed with this error."""
    return Reply(200, {"id": "«id»", "status": "failed", "error": error, "input": {}})


def refusing(status, **body):
    return Reply(status, body)


BOUGHT = Reply(201, {"id": "«id»", "status": "starting"})
OBEYED = "\x1b]0;owned\x07\x9b31m\u202e\u2028 {}: «token»"
HOSTILE = f"{OBEYED}\x00\ud800"
# Cases that once broke a worker; every run tries them.
KNOWN_CASES = (
    Case(
        tuple(Token(f"{MARK} {name}", creates=(BOUGHT,), looks=(failing(f"no: «{name}»"),)) for name in FORMS)
        + tuple(Token(f"{MARK} {name}", creates=(refusing(422, title="no", detail=f"«{name}»"),)) for name in FORMS)
    ),
    Case(
        tuple(Token(f"{MARK} {name}", creates=(BOUGHT, BOUGHT), looks=(Reply(200, name),)) for name in [*RAW, *PACKED])
    ),
    Case(
        (
            Token(MARK, creates=(BOUGHT,), looks=(failing(HOSTILE),)),
            Token(MARK, creates=(BOUGHT,), looks=(Reply(200, {}), failing(OBEYED))),
            Token(MARK, creates=(Reply(201, {}), refusing(422, detail=OBEYED))),
            Token(MARK, creates=(refusing(400, detail=HOSTILE, title=HOSTILE),)),
            Token(MARK, creates=(Reply(201, {"id": HOSTILE, "status": HOSTILE}),)),
            Token(MARK, creates=(refusing(402, detail=HOSTILE),)),
            Token(
                f"{MARK} " + "a fox, " * 100,
                creates=(
                    refusing(422, invalid_fields=[{"field": "«its middle»", "description": "«1500000 * a fox »"}]),
                ),
            ),
        )
    ),
    Case(
        (
            *(Token(MARK, 1_000_000, {"mint_timestamp": "'-infinity'"}) for _ in range(4)),
            Token(MARK, 1, {"generation_epoch": "9223372036854775807", "image_url": "repeat('x', 50000000)"}),
        )
    ),
)
