"""What must stand in no line of the log and in no row: a prompt, the API token, characters that control a terminal."""

import html
import json
import re
import unicodedata
from urllib.parse import unquote

RUN = 12  # consecutive letters of a prompt's mark: as many as echoes.py hides
LEVELS = 3  # levels of escapes inside escapes
UNFIT = {"Cc", "Cf", "Cs", "Zl", "Zp"}
STAY = "\n\t\u200c\u200d"


def letters(text):
    """The letters and digits of a text, also from inside escapes."""
    for _ in range(LEVELS):
        text = html.unescape(unquote(text))
        text = re.sub(
            r"\\+u([0-9a-fA-F]{4})|\\+x([0-9a-fA-F]{2})", lambda found: chr(int(found[1] or found[2], 16)), text
        )
    return "".join(each for each in unicodedata.normalize("NFKD", text).casefold() if each.isalnum())


def tells(text, marks):
    """The first mark of which a text repeats RUN letters."""
    told = letters(text)
    runs = ((mark, letters(mark)) for mark in marks)
    return next(
        (mark for mark, run in runs if any(run[at : at + RUN] in told for at in range(len(run) - RUN + 1))), None
    )


def unfit(text):
    """The characters that a terminal obeys, or that hide other characters."""
    return sorted({each for each in text if unicodedata.category(each) in UNFIT and each not in STAY})


def wrong(text, marks, secret):
    """The faults of a text that is stored or logged."""
    found = []
    if mark := tells(text, marks):
        found.append(f"tells the prompt {mark}")
    if secret in text:
        found.append("tells the API token")
    if bad := unfit(text):
        found.append(f"has {bad}")
    return [f"{each}: {text[:500]!r}" for each in found]


def wrong_line(line, marks, secret):
    """The faults of a line of the log."""
    try:
        told = json.loads(line)
    except ValueError:
        return [f"is no JSON: {line[:500]!r}"]
    if not isinstance(told, dict):
        return [f"is no JSON object: {line[:500]!r}"]
    if told.get("event") == "worker.error" and told.get("role") in {"attempt", "worker"}:
        return [f"is an error of ours: {line[:500]}"]
    return [each for text in texts(told) for each in wrong(text, marks, secret)]


def texts(value):
    """All texts in a value of JSON."""
    match value:
        case str():
            yield value
        case dict():
            for pair in value.items():
                yield from texts(list(pair))
        case list():
            for each in value:
                yield from texts(each)
