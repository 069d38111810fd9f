import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.text.foreign import LONGEST_LINE, fit, fit_line, fit_values

STAY = "\t\n\u200c\u200d"
UNFIT = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # Unicode's categories


def test_every_control_format_and_surrogate_character_is_replaced():
    everything = map(chr, range(sys.maxunicode + 1))
    unfit = [character for character in everything if unicodedata.category(character) in UNFIT]

    assert [character for character in unfit if fit(character) not in {" ", "\ufffd"}] == list(STAY)
    assert [character for character in unfit if fit_line(character) not in {" ", "\ufffd"}] == list("\u200c\u200d")


@pytest.mark.parametrize(
    "text", ["\U0001f469\u200d\U0001f680", "\u2764\ufe0f", "\u0645\u06cc\u200c\u062e", "naïve 🦊", "one\n\ttwo", ""]
)
def test_emoji_and_scripts_that_need_joiners_stay_as_they_are(text):
    assert fit(text) == text


@pytest.mark.parametrize("text", ["a\nerror  forged", "a\r\nb", "a\tb", "a\u2028b", "a\x0bb", "\n"])
def test_a_text_in_a_place_of_one_line_writes_no_second_one(text):
    told = fit_line(text)

    assert len(told.splitlines()) == 1
    assert len(told) == len(text)


@given(st.text(st.characters(), max_size=300), st.integers(1, 200))
def test_a_line_is_never_longer_than_its_place(text, longest):
    told = fit_line(text, longest=longest)

    assert len(told) == min(len(text), longest)
    assert told.isprintable() or not {unicodedata.category(character) for character in told} & (UNFIT - {"Cf"})
    assert told.encode() or not text
    assert fit_line(told, longest=longest) == told


def test_a_line_is_cut_before_it_is_made_fit():
    assert len(fit_line("\x1b" * 50_000_000)) == LONGEST_LINE


def test_every_text_in_a_value_is_made_fit():
    hostile = {"a\x1b": ["b\u202e", ("c\x9b", 1, None, True, 1.5)], 7: {"d": b"\x1b"}}

    assert fit_values(hostile) == {
        "a\ufffd": ["b\ufffd", ["c\ufffd", 1, None, True, 1.5]],
        7: {"d": "b'\\x1b'"},
    }


def test_what_is_nested_without_end_is_made_one_text():
    nested = []
    for _ in range(50):
        nested = [nested, "\x1b"]

    assert "\\x1b" in repr(fit_values(nested))
    assert "\x1b" not in str(fit_values(nested))
