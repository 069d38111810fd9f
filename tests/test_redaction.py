import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.text.redaction import _MOST_READ, LONGEST, Redactor

TOKEN = "r8_a_secret_that_must_not_be_told"
PASSWORD = "p@ss/w:rd%"
QUOTED = "p%40ss%2Fw%3Ard%25"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nothing to hide", "nothing to hide"),
        (f"the token {TOKEN}.", "the token [redacted]."),
        (f"{TOKEN}{TOKEN}", "[redacted][redacted]"),
        (f"the password {PASSWORD}", "the password [redacted]"),
        (f"the password {QUOTED}", "the password [redacted]"),
        ("r8_of_somebody_else", "[redacted]"),
        ("x=r8_AbCdEf0123&y", "x=[redacted]&y"),
        ("Bearer%20r8_AbCdEf0123", "Bearer%20[redacted]"),
        ("layer8_norm r8_abc", "layer8_norm r8_abc"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer [redacted]"),
        ("{'authorization': 'bearer  abc'}", "{'authorization': 'bearer  [redacted]'}"),
        ("postgresql://user:word@host:5432/db", "postgresql://[redacted]@host:5432/db"),
        ("postgresql://user:wo@rd@host/db", "postgresql://[redacted]@host/db"),
        ("https://r8@api.replicate.com/v1", "https://[redacted]@api.replicate.com/v1"),
        ("postgresql://host/db?user=a&password=word&x=1", "postgresql://host/db?user=a&password=[redacted]&x=1"),
        ("https://replicate.delivery/a@b.webp", "https://replicate.delivery/a@b.webp"),
        ("mail a@b.example", "mail a@b.example"),
        ("a\x00b", "a\ufffdb"),
        ("a\ud800b\udfffc", "a\ufffdb\ufffdc"),
        ("\x1b[2J\x9b31m\x7f\x08", "\ufffd[2J\ufffd31m\ufffd\ufffd"),
        ("one\r\x0b\x85\u2028two", "one    two"),
        ("one\n\ttwo", "one\n\ttwo"),
        ("a\u202eb\u2066c\u200ed\ufeffe\u200bf\U000e0041", "a\ufffdb\ufffdc\ufffdd\ufffde\ufffdf\ufffd"),
        ("\U0001f469\u200d\U0001f680 \u0645\u06cc\u200c\u062e", "\U0001f469\u200d\U0001f680 \u0645\u06cc\u200c\u062e"),
        ("naïve 🦊", "naïve 🦊"),
        ("", ""),
    ],
)
def test_secrets_and_what_is_no_text_are_replaced(text, told):
    assert Redactor([TOKEN, PASSWORD, f"postgresql://u:{QUOTED}@h/db"])(text) == told


def test_a_password_known_as_it_stands_in_a_url_is_known_decoded_too():
    assert Redactor([QUOTED])(f"{QUOTED} {PASSWORD}") == "[redacted] [redacted]"


def test_the_longer_of_two_secrets_leaves_no_rest():
    assert Redactor(["secret", "secret-and-more"])("secret-and-more") == "[redacted]"


@pytest.mark.parametrize("secret", ["", "a", "of", "fox", "12345"])
def test_a_secret_as_short_as_a_word_blanks_out_no_words(secret):
    assert Redactor([secret])("a story of 12345 foxes") == "a story of 12345 foxes"


@pytest.mark.parametrize("place", range(LONGEST - len(PASSWORD) - 2, LONGEST + 2))
def test_no_half_of_a_secret_survives_the_cut(place):
    told = Redactor([PASSWORD])("x" * place + PASSWORD + "y" * 500)

    assert len(told) == LONGEST
    assert told.endswith("…")
    assert "p@" not in told


@pytest.mark.parametrize("place", range(_MOST_READ - len(PASSWORD) - 2, _MOST_READ + 2))
def test_no_half_of_a_secret_survives_where_a_long_text_is_cut(place):
    told = Redactor([PASSWORD])("\0" * place + PASSWORD + "y" * 500, longest=2 * _MOST_READ)

    assert len(told) < _MOST_READ
    assert told.endswith("…")
    assert "p@" not in told


def test_a_secret_is_blanked_before_what_is_no_text_is_replaced():
    assert Redactor(["se\x00cret\ud800"])("a se\x00cret\ud800") == "a [redacted]"


@pytest.mark.parametrize("character", ["x", "ä", "🦊", "\x00"])
def test_the_limit_is_in_characters(character):
    redact = Redactor()

    assert len(redact(character * LONGEST)) == LONGEST
    assert not redact(character * LONGEST).endswith("…")
    assert len(redact(character * (LONGEST + 1))) == LONGEST
    assert redact(character * (LONGEST + 1)).endswith("…")
    assert redact("abcdef", longest=4) == "abc…"


@given(st.text(st.characters(), max_size=1200), st.integers(0, 1200))
def test_whatever_comes_is_fit_to_be_stored(text, place):
    redact = Redactor([TOKEN])

    told = redact(text[:place] + TOKEN + text[place:])

    assert TOKEN not in told
    assert len(told) <= LONGEST
    assert told.encode()
    assert not {unicodedata.category(character) for character in told} & {"Cs", "Zl", "Zp"}
    assert not {character for character in told if unicodedata.category(character) == "Cc"} - {"\n", "\t"}


@given(st.text(max_size=200))
def test_what_was_redacted_stays_as_it_is(text):
    redact = Redactor([TOKEN])
    told = redact(f"Bearer {TOKEN} postgresql://a:b@c password=d {text}")

    assert redact(told) == told
