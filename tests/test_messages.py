import ast
from pathlib import Path

import asyncpg
import pytest

import reactor
from reactor.errors import TransientError
from reactor.text.messages import first_line_of, message_of, unreachable


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("a port is a number"), "a port is a number"),
        (ValueError(" padded\n"), "padded"),
        (TimeoutError(), "no answer in time"),
        (ConnectionResetError(), "ConnectionResetError, without a message"),
        (caused(ConnectionError(), OSError(113, "No route to host")), "[Errno 113] No route to host"),
        (caused(TransientError(""), TimeoutError()), "no answer in time"),
        (ExceptionGroup("two", [TimeoutError(), ValueError("second")]), "no answer in time"),
        (KeyError(), "KeyError, without a message"),
        (asyncpg.InterfaceError("  "), "InterfaceError, without a message"),
    ],
)
def test_an_error_always_says_something(error, said):
    assert message_of(error) == said


def test_one_line_is_said_of_an_error_with_details():
    assert first_line_of(ValueError("relation is missing\nHINT: make it")) == "relation is missing"


def test_an_unreachable_database_is_told_without_the_systems_number():
    assert unreachable(ConnectionRefusedError(111, "refused")) == "cannot reach the database: refused"


def words_an_error(node):
    """Whether a call or an f-string turns a variable named like an error into text."""
    names = {"error", "exc", "exception", "cause"}
    match node:
        case ast.Call(func=ast.Name(id="str"), args=[ast.Name(id=name)]):
            return name in names
        case ast.FormattedValue(value=ast.Name(id=name)):
            return name in names
        case _:
            return False


def test_only_one_function_makes_words_of_an_error():
    places = [
        f"{path.name}:{node.lineno}"
        for path in sorted(Path(reactor.__file__).parent.rglob("*.py"))
        if path.name != "messages.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if words_an_error(node)
    ]

    assert places == []
