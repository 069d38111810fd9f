"""A refusal with an unreadable body still counts as a refusal, because status and Retry-After are enough."""

import gzip

import pytest
from test_bodies import BODY, MEGABYTE, bomb
from test_transport import CALLS, asked
from wire import HANG_UP, Wire, http

from reactor.errors import AccountError, PermanentError, RateLimitedError, TransientError, UnauthorizedError
from reactor.providers.bodies import MOST_VALUES

pytestmark = pytest.mark.anyio

UNREADABLE = {
    "an unknown coding": (BODY, {"content_encoding": "br"}),
    "a coding of nothing": (b"", {"content_encoding": "gzip"}),
    "two codings": (gzip.compress(BODY), {"content_encoding": "gzip, gzip"}),
    "a bomb": (bomb(50 * MEGABYTE, 1), {"content_encoding": "gzip"}),
    "many values": (b'{"a": [%b0]}' % (b"0," * MOST_VALUES), {}),
    "many values, no JSON": (b'{"a": NaN, "results": [%b0]}' % (b"0," * MOST_VALUES), {}),
}


@pytest.mark.parametrize(("body", "headers"), UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, UnauthorizedError),
        (402, AccountError),
        (422, PermanentError),
        (429, RateLimitedError),
        (500, TransientError),
    ],
)
async def test_a_status_says_what_it_says_though_its_body_cannot_be_read(status, kind, body, headers):
    wire = Wire([(0, http(body, status, retry_after=7, **headers)), (0, HANG_UP)])

    error = await asked(wire, CALLS["create"])

    assert (type(error), error.answered) == (kind, True)
    assert getattr(error, "retry_after", None) == (7.0 if status == 429 else None)
