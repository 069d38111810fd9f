import io
import json
import re

import pytest

from reactor.logs import HostLog, StructuredLog
from reactor.text.redaction import Redactor

RETRY = {
    "error_message": "\x1b[31mr8_made_up_token",
    "token_id": 7,
    "prediction_id": None,
    "attempt": 1,
}


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def logged():
    """Log events; return the lines."""

    def log(*events, style, terminal=False):
        written = Terminal() if terminal else io.StringIO()
        sink = StructuredLog(Redactor(["r8_made_up_token"]), style=style, stream=written)
        for event, fields in events:
            sink(event, fields)
        return written.getvalue().splitlines()

    return log


def test_people_read_the_time_of_day_in_columns_and_first_whose_token_it_is(logged):
    lines = logged(
        ("token.generation.retry", RETRY),
        ("token.generation.succeeded", {"attempt": 2, "token_id": 12345, "image_url": "https://x/1"}),
        ("intake.paused", {"reason": "no answer"}),
        style="console",
    )

    assert all(re.match(r"\d\d:\d\d:\d\d\.\d{3} \[", line) for line in lines)
    assert [line[13:] for line in lines] == [
        "[warning  ] token.generation.retry     token_id=7     attempt=1 error_message=\ufffd[31m[redacted]",
        "[info     ] token.generation.succeeded token_id=12345 attempt=2 image_url=https://x/1",
        "[warning  ] intake.paused              reason='no answer'",
    ]


def test_only_a_terminal_gets_colours_and_by_itself_the_columns(logged):
    (plain,) = logged(("worker.stopped", {}), style="console")
    (coloured,) = logged(("worker.stopped", {}), style=None, terminal=True)

    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[\d+m", "", coloured)[13:].rstrip() == plain[13:].rstrip()
    assert "\x1b[" in coloured


def test_machines_get_an_object_a_line_with_all_there_is(logged):
    (line,) = logged(("token.generation.retry", RETRY), style=None)

    told = json.loads(line)
    assert list(told)[:3] == ["timestamp", "level", "event"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", told["timestamp"])
    assert (told["token_id"], told["prediction_id"]) == (7, None)
    assert "r8_made_up" not in line


def test_a_line_is_written_whatever_the_values_are(logged):
    odd = {"token_id": 2**256, "seen": ["\ud800"], "error_message": "a\ud800\x00\u202eb", "counts": {1: "one"}}
    (line,) = logged(("token.generation.retry", odd), style="json")

    told = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", told["timestamp"])
    assert (told["token_id"], told["seen"]) == (str(2**256), ["\ufffd"])
    assert (told["error_message"], told["counts"]) == ("a\ufffd\ufffd\ufffdb", {"1": "one"})


HOSTILE = "a\x1b]0;owned\x07\x9b31m\u202eb\u2028c\nd\r\x00"


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("value", [HOSTILE, [HOSTILE], {HOSTILE: {"of": (HOSTILE,)}}, ValueError(HOSTILE)])
def test_no_character_that_a_terminal_obeys_gets_into_a_line(logged, style, value):
    (line,) = logged(("worker.error", {"error_message": value, "a\x9b": 1}), style=style)

    assert line.isprintable()


def test_a_host_gets_no_character_that_a_terminal_obeys(caplog):
    HostLog(Redactor())("worker.error", {"error_message": HOSTILE, "seen": [HOSTILE]})

    (record,) = caplog.records
    assert record.getMessage().isprintable()
    assert record.reactor["seen"][0].replace("\n", "").isprintable()


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_line_is_written_whatever_the_encoding_of_stdout_is(style):
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="ascii")
    StructuredLog(Redactor(), style=style, stream=stream)("token.generation.retry", {"error_message": "cut…"})
    stream.flush()

    assert b"cut\\u2026" in written.getvalue()
