"""Every part of a prompt that a text repeats is blanked out, in every spelling."""

import html
import json
import unicodedata
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.text.echoes import BLANK, MOST_BYTES, MOST_READ, SHORT_TEXT, Echoes
from reactor.text.spellings import spelled
from reactor.tokens import LONGEST_PROMPT

PROMPT = 'an owl named "Ada" on a pier,\nat dawn — 東京の夜, très étoilée'
SPELLINGS = {
    "as it is": str,
    "in capitals": str.upper,
    "in small letters": str.lower,
    "with other spaces": lambda text: " ".join(text.split()),
    "without spaces": lambda text: "".join(text.split()),
    "with accents apart": lambda text: unicodedata.normalize("NFD", text),
    "without accents": lambda text: "".join(
        c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn"
    ),
    "in wide letters": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
    "as JSON": json.dumps,
    "as JSON of Unicode": lambda text: json.dumps(text, ensure_ascii=False),
    "as JSON in JSON": lambda text: json.dumps(json.dumps(text)),
    "all escaped": lambda text: "".join(f"\\u{ord(c):04x}" for c in text),
    "as Python": repr,
    "as Python's ASCII": ascii,
    "as Python's bytes": lambda text: repr(text.encode()),
    "as HTML": html.escape,
    "as numbers of HTML": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "as hexadecimal HTML": lambda text: "".join(f"&#x{ord(c):X};" for c in text),
    "as HTML in HTML": lambda text: html.escape(html.escape(text)),
    "in a URL": quote,
    "in a form": quote_plus,
    "in a URL in a URL": lambda text: quote(quote(text)),
    "all in percents": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "with stars": "*".join,
    "with what cannot be seen": "\u200b".join,
    "word by word": lambda text: ", ".join(f"[{word}]" for word in text.split()),
}
PARTS = {"all of it": slice(None), "its beginning": slice(30), "its middle": slice(8, 46), "its end": slice(-30, None)}


def letters(text):
    return "".join(each for each in unicodedata.normalize("NFKD", html.unescape(text)).casefold() if each.isalnum())


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
def test_no_part_of_a_prompt_is_told_in_any_spelling(spell, part):
    told = Echoes("another one", PROMPT).hide(f"(E1234) bad input: {spell(PROMPT[part])}! Go on.")

    assert told.startswith("(E1234) bad input: ")
    assert told.endswith("! Go on.") or told == f"{BLANK} (E1234)"
    left = letters(told.removeprefix("(E1234) bad input: ").removesuffix("! Go on.").replace(BLANK, ""))
    assert len(left) < 4 or left not in letters(PROMPT)
    assert BLANK in told


@pytest.mark.parametrize(
    ("prompt", "text", "told"),
    [
        ("a red fox", "no: A RED-FOX!", f"no: {BLANK}!"),
        ("fox", "no: fox.", f"no: {BLANK}."),
        ("fox", "no: \\u0066ox", f"no: {BLANK}"),
        ("fox", "a firefox and foxes", "a firefox and foxes"),
        ("猫", "入力「猫」は不可", f"入力「{BLANK}」は不可"),
        ("🦊🦊", "no: 🦊🦊!", f"no: {BLANK}!"),
        ("::::::", "no: ::::::!", f"no: {BLANK}!"),
        ("[prompt]", "say [prompt]!", f"say {BLANK}!"),
        (r"C:\new\users", r"no: C:\new\users", f"no: {BLANK}"),
        ("50%20off &amp; more", "no: 50%20off &amp; more", f"no: {BLANK}"),
        ("a fox", "no a\\u00", "no a\\u00"),
        ("an owl on a pier", "an owl named Bob", "an owl named Bob"),
    ],
)
def test_a_short_prompt_is_blanked_out_where_it_stands_as_words(prompt, text, told):
    assert Echoes(prompt).hide(text) == told


@pytest.mark.parametrize("prompt", [None, "", " ", "E005", "NSFW", "ox", "()"])
def test_a_prompt_that_says_nothing_or_is_a_code_changes_nothing(prompt):
    assert Echoes(prompt).hide("NSFW content (), a lot of ox (E005)") == "NSFW content (), a lot of ox (E005)"


def test_of_a_text_that_has_most_words_of_a_prompt_only_codes_are_kept():
    echoes = Echoes("lighthouse above silver clouds")

    assert echoes.hide("(E005) clouds are silver 1 above 2 a lighthouse") == f"{BLANK} (E005)"
    assert echoes.hide("the clouds are silver") == "the clouds are silver"


def test_most_words_of_a_prompt_are_known_without_their_accents():
    echoes = Echoes("très étoilée, une nuit près d'Orléans")

    assert echoes.hide("Nuit-Etoilee tres Orleans pres (E005)") == f"{BLANK} (E005)"


@pytest.mark.parametrize(
    ("prompt", "text", "left"),
    [
        ("a nsfw sign in the snow", "no: a NSFW sign in th...", f"no: {BLANK}..."),
        ("sensitive", "flagged as sensitive", f"flagged as {BLANK}"),
        ("E9828", "NSFW content in (E9828)", f"NSFW content in ({BLANK})"),
        ("nsfw", "NSFW content in (E9828)", f"{BLANK} content in (E9828)"),
    ],
)
def test_a_text_is_understood_without_a_prompt_that_is_a_code_too(prompt, text, left):
    assert Echoes(prompt).without(text) == left


FRENCH = "très étoilée, une nuit d'été à Orléans, château"


@pytest.mark.parametrize(
    ("prompt", "word"),
    [
        (PROMPT, "an-owl-named-ada"),
        (PROMPT, "owlnamedadaonapier"),
        (PROMPT, "owlnamedadaonapieratdawnxx"),
        (FRENCH, "tres-etoilee-une-nuit-dete-a-orleans-chateau"),
        (FRENCH, "tresetoileeunenuitdeteaorl"),
        ("my secret", "my-secret"),
        ("my secret", "v2.my_secret"),
        ("red fox", "redfox"),
        ("zebra", "azebra7"),
        ("lighthouse above silver clouds", "clouds-silver-above-lighthouse"),
    ],
)
def test_a_word_that_repeats_a_prompt_is_known(prompt, word):
    assert Echoes("a calm sea", prompt).in_word(word)
    assert not Echoes().in_word(word)


ID = "gm3qorzdhgbfurvjtvhg6dckhu"


@pytest.mark.parametrize("prompt", [PROMPT, FRENCH, "red fox", "gm3", "zdhgb", ID[:11], "26", ID[3:14]])
def test_an_id_that_was_made_at_random_repeats_no_prompt(prompt):
    assert not Echoes(prompt, "a calm sea").in_word(ID)


@given(st.text(min_size=1, max_size=40), st.from_regex(r"[a-z0-9_.-]{1,40}", fullmatch=True))
def test_no_word_is_told_that_would_be_blanked_out(prompt, word):
    echoes = Echoes(prompt)

    assert len(word) == len(ID) or echoes.in_word(word) is (echoes.hide(word) != word)


ECHOED = {
    "a run": ("a lighthouse at dusk", "a/lighthouse-at"),
    "a short prompt": ("red fox", "the_red_fox"),
    "a prompt of signs": ("~~~~~", "x ~~~~~ y"),
    "an escape": ("a lighthouse at dusk", "a%20light%68ouse-at"),
    "another script": ("東京の夜", "東京の夜"),
    "nothing": ("a lighthouse at dusk", "a-light/house/in-the-dawn"),
}


@pytest.mark.parametrize(("prompt", "text"), ECHOED.values(), ids=ECHOED)
def test_an_echo_is_found_in_a_short_text_as_in_a_long_one(prompt, text):
    rest = " ." * SHORT_TEXT

    assert Echoes(prompt).hide(text + rest) == Echoes(prompt).hide(text) + rest


def test_what_is_beyond_the_length_that_is_read_is_dropped():
    assert len(Echoes("a fox").hide("z" * 10 * MOST_READ)) == MOST_READ
    assert len(Echoes().hide("z" * 10 * MOST_READ)) == MOST_READ


@pytest.mark.parametrize("text", ["\u3300" * MOST_READ, "東" * MOST_READ, "z" + "🦊%" * MOST_READ])
def test_of_a_text_no_more_is_read_than_its_normal_form_may_have_bytes(text):
    echoes = Echoes("a fox")

    assert MOST_BYTES - 9 <= len(spelled(echoes.hide(text)).normal) <= MOST_BYTES
    assert echoes.without(text) == echoes.hide(text)


@pytest.mark.parametrize("letter", ["z", "東", "\u3300", "🦊"])
def test_a_prompt_is_known_to_its_end_and_not_beyond(letter):
    prompt = f"{letter * (LONGEST_PROMPT - 16)}its end is known"

    assert Echoes(prompt).hide("no: ITS END IS KNOWN!") == f"no: {BLANK}!"
    assert Echoes(f"{prompt} beyond that").hide("no: known beyond that") == "no: known beyond that"


@given(st.text(min_size=5, max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_a_prompt_is_blanked_out_wherever_it_stands(prompt, before, after):
    told = Echoes(prompt).hide(before + prompt + after)

    assert len(prompt.strip()) < 5 or prompt not in told.replace(BLANK, "")


@given(st.text(min_size=20, max_size=60), st.sampled_from(sorted(SPELLINGS)), st.text(max_size=20))
def test_any_prompt_is_known_in_any_spelling(prompt, spelling, around):
    told = Echoes(prompt).hide(f"{around} {SPELLINGS[spelling](prompt)} {around}")

    assert len(letters(prompt)) < 12 or letters(prompt) not in letters(told.replace(BLANK, ""))
