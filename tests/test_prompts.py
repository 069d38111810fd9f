import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor.errors import PermanentError
from reactor.text.prompts import sample_prompts, validate_prompt
from reactor.tokens import LONGEST_PROMPT


@pytest.mark.parametrize(
    "prompt",
    ["a fox", "  a fox\n", "x", "🦊", "x" * LONGEST_PROMPT, "🦊" * LONGEST_PROMPT, "日本\u200b語", "a\u0301", "\ue000"],
)
def test_a_prompt_is_sent_as_it_is(prompt):
    assert validate_prompt(prompt) == prompt


@pytest.mark.parametrize(
    "prompt",
    [None, "", " ", "\t\r\n\v\f", "\u00a0", "\u2003\u2028\u2029", "\u3000", "\u200b\ufeff", "\x07", "\u202e \u2060"],
)
def test_a_prompt_with_nothing_to_see_is_refused(prompt):
    with pytest.raises(PermanentError, match="Prompt validation failed: the prompt is empty"):
        validate_prompt(prompt)


@pytest.mark.parametrize("character", ["x", "🦊"])
def test_a_prompt_of_more_than_a_thousand_characters_is_refused(character):
    with pytest.raises(PermanentError, match="the prompt has more than 1000 characters"):
        validate_prompt(character * (LONGEST_PROMPT + 1))


@pytest.mark.parametrize("prompt", ["a\x00b", "a\ud800", "\udfff", "a \ud83d\udc00 b"])
def test_a_prompt_that_is_no_text_is_refused(prompt):
    with pytest.raises(PermanentError, match="characters that are no text"):
        validate_prompt(prompt)


@given(st.text(st.characters(), max_size=LONGEST_PROMPT))
def test_whatever_passes_can_be_sent(prompt):
    with contextlib.suppress(PermanentError):
        assert validate_prompt(prompt).encode()


def test_there_are_as_many_sample_prompts_as_asked_for_and_no_two_alike():
    prompts = sample_prompts(1620)

    assert len(set(prompts)) == 1620
    assert all(validate_prompt(prompt) == prompt for prompt in prompts)


@pytest.mark.parametrize("count", [0, 1, 7, 1621, 5000])
def test_sample_prompts_come_again_in_the_same_order(count):
    prompts, again = sample_prompts(count), sample_prompts(1620)

    assert len(prompts) == count
    assert prompts == [again[place % 1620] for place in range(count)]
