"""No part of a password is printed, wherever it lands in a URL that was not percent-encoded."""

import io
from contextlib import redirect_stderr, redirect_stdout

import anyio
import asyncpg
import pytest
from alembic.config import main as alembic
from asyncpg.connect_utils import _parse_connect_dsn_and_args as as_the_driver_reads
from hypothesis import example, given
from hypothesis import strategies as st
from test_migrations import CHECKOUT

from reactor.cli import main
from reactor.database.connections import ConnectionLostError, dial
from reactor.settings import DatabaseSettings, Settings, SettingsError
from reactor.text.messages import unreachable
from reactor.text.redaction import Redactor
from reactor.urls import base_url, database_url, passwords

SECRET = "Secret9"
# URLs in which a password without percent-encoding lands in various parts. Nobody listens at the port.
BROKEN = [
    "postgresql://u:12?Secret9@127.0.0.1:1/x",
    "postgresql://u:12?Secret9=1@127.0.0.1:1/x",
    "postgresql://u:12?a=1&Secret9@127.0.0.1:1/x",
    "postgresql://u:12?port=Secret9@127.0.0.1:1/x",
    "postgresql://u:12?user=Secret9@127.0.0.1:1/x",
    "postgresql://u:12?sslmode=Secret9@127.0.0.1:1/x",
    "postgresql://u:12/Secret9@127.0.0.1:1/x",
    "postgresql://u:12#Secret9@127.0.0.1:1/x",
    "postgresql://u:12#Secret9",
    "postgresql://u:Secret9/@127.0.0.1:1/x",
    "postgresql://u:Secret9?@127.0.0.1:1/x",
    "postgresql://u:Secret9#@127.0.0.1:1/x",
    "postgresql://u:a@Secret9@127.0.0.1:1/x",
    "postgresql://u:a@b:Secret9@127.0.0.1:1/x",
    "postgresql://u:a@127.0.0.1:Secret9@127.0.0.1:1/x",
    "postgresql://u:[Secret9@127.0.0.1:1/x",
    "postgresql://u:]Secret9@127.0.0.1:1/x",
    "postgresql://u:[Secret9]@127.0.0.1:1/x",
    "postgresql://u:x@[Secret9]:1/x",
    "postgresql://u:\u2100Secret9@127.0.0.1:1/x",
    "postgresql://u:Sec\nret9@127.0.0.1:1/x",
    "postgresql://u:x@127.0.0.1:Secret9/x",
    "postgresql://u:x@127.0.0.1:1/x?port=Secret9",
    "postgresql://u:x@127.0.0.1:1/x?sslmode=Secret9",
    "postgresql://u:x@127.0.0.1:1/x?Secret9",
    "postgresql:u:Secret9@127.0.0.1:1/x",
    "postgresql:/u:Secret9@127.0.0.1:1/x",
    "postgresql:///u:Secret9@127.0.0.1:1/x",
    "postgresql+Secret9",
    "postgresql+asyncpg://u:12?Secret9@127.0.0.1:1/x",
    "mysql://u:Secret9@127.0.0.1:1/x",
    "//u:Secret9@127.0.0.1:1/x",
    "u:Secret9@127.0.0.1:1/x",
    "Secret9",
]
# URLs with only one reading, which fail later: in the driver, or because nobody listens there.
ODD = [
    "postgresql://u:Secret9@127.0.0.1:1/x",
    "postgresql://u:Secret9%3F@127.0.0.1:1/x",
    "postgresql://u:12%3FSecret9@127.0.0.1:1/x",
    "postgresql://u:a:Secret9@127.0.0.1:1/x",
    "postgresql://u:a\\Secret9%zz@127.0.0.1:1/x",
    "postgresql://127.0.0.1:1/x?password=Secret9",
    "postgresql://u@127.0.0.1:1/x?password=Secret9%40&sslmode=disable",
    "postgresql://u:Secret9@127.0.0.1:1/x?ssl_min_protocol_version=Secret9",
    "postgresql://u:Secret9@/x?host=127.0.0.1,127.0.0.1&port=1,1,1",
    "postgresql://u:x@/x?host=Secret9:Secret9",
    "postgresql://u:x@127.0.0.1:1/x?sslrootcert=/nowhere&sslmode=verify-full&sslpassword=Secret9",
    f"postgresql://u:Secret9@{'a' * 300}/x",
    "postgresql://u:Secret9@\x00/x",
    "postgresql://u:Secret9@%00/x",
]


@pytest.mark.parametrize("url", BROKEN)
def test_a_url_that_can_be_read_in_two_ways_is_refused_without_its_words(url):
    with pytest.raises(ValueError, match=r"postgresql://|sslmode") as refused:
        database_url(url)

    said = str(refused.value)
    assert SECRET not in said
    assert said in str([said])  # true for a printable text of one line


def read_by_the_driver(url):
    """Where and as which user asyncpg would connect; without the password."""
    names = "host port user password passfile database ssl service servicefile direct_tls server_settings"
    others = "target_session_attrs krbsrvname gsslib"
    found, parameters = as_the_driver_reads(dsn=url, **dict.fromkeys(f"{names} {others}".split()))
    return found, parameters._replace(password=None)


@given(
    *(st.text(st.sampled_from("/?#@:[]%&=+ ;,\\'\"12ab\n\t\xa0\u2100\uff0f"), max_size=4) for _ in range(2)),
    st.sampled_from(["", "u:", "u:12", "u:x&a=", "u:x?a=1&b="]),
    st.sampled_from(["", "?a=1", "?sslmode=disable", "?port=1"]),
)
@example("12?", "", "u:", "")
def test_whatever_a_password_holds_the_driver_finds_it_nowhere_else(before, after, user, options):
    url, said = tried(database_url, f"postgresql://{user}{before}{SECRET}{after}@127.0.0.1:1/x{options}")
    found, error = tried(read_by_the_driver, url) if url else (None, None)

    assert SECRET not in f"{said}{error and unreachable(error)}"
    assert user == "" or SECRET not in repr(found)  # a user's name is no secret
    assert user == "" or url is None or SECRET in "".join(passwords(url))


def tried(work, given):
    """The result and None, or None and the ValueError."""
    try:
        return work(given), None
    except ValueError as error:
        return None, error


@pytest.mark.parametrize("url", ODD)
def test_no_error_of_connecting_tells_a_password(url):
    settings = DatabaseSettings.load(_env_file=None, database_url=url)

    with pytest.raises(ConnectionLostError) as lost:
        anyio.run(dial_once, settings.database_url.get_secret_value())

    redact = Redactor(settings.secrets())
    assert SECRET not in redact(str(lost.value))
    assert SECRET not in redact(unreachable(lost.value.__cause__))


async def dial_once(url):
    await dial(url, name="test")


def test_what_the_driver_says_of_a_url_is_told_where_it_repeats_nothing(monkeypatch):
    told = [unreachable(said) for said in (ValueError("invalid literal: 'Secret9'"), UnicodeError("Secret9"))]
    about = asyncpg.ClientConfigurationError("`sslnegotiation` parameter must be one of: postgres, direct")

    assert told == ["cannot reach the database: its URL cannot be used"] * 2
    assert unreachable(about) == f"cannot reach the database: {about}"


@pytest.fixture
def say(monkeypatch, tmp_path):
    """Run a command; return its exit code and its whole output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_made_up_token")
    monkeypatch.setenv("FALLBACK_CENSORED_PROMPT", "a calm sea")

    def run(command, *arguments):
        code, printed = 0, io.StringIO()
        with redirect_stdout(printed), redirect_stderr(printed):
            try:
                command(arguments)
            except SystemExit as end:
                code = end.code
        return code, printed.getvalue()

    return run


@pytest.mark.parametrize("name", ["DATABASE_URL", "LISTEN_DATABASE_URL"])
@pytest.mark.parametrize("arguments", [["run"], ["status"], ["migrate"], ["mint"]])
def test_no_command_prints_a_word_of_a_url_that_cannot_be_read(say, monkeypatch, name, arguments):
    monkeypatch.setenv("DATABASE_URL", "postgresql://u@127.0.0.1:1/x")
    for url in BROKEN:
        monkeypatch.setenv(name, url)

        code, printed = say(main, *arguments)

        assert (code, printed.count("\n")) == (2, 1)
        assert printed.startswith(f"{name}: ")
        assert SECRET not in printed


def test_alembic_by_hand_prints_no_word_of_it_either(say, monkeypatch):
    for url in [*BROKEN, *ODD]:
        monkeypatch.setenv("DATABASE_URL", url.replace("\0", ""))

        code, printed = say(alembic, "-c", str(CHECKOUT / "alembic.ini"), "upgrade", "head")

        assert code != 0
        assert "FAILED: " in printed
        assert SECRET not in printed


@pytest.mark.parametrize(
    "url",
    [
        "https://u:Secret9@gateway.example",
        "https://u:12?Secret9@gateway.example",
        "https://u:12/Secret9@gateway.example",
        "https://u:a@b:Secret9@gateway.example",
        "https://gateway.example:Secret9",
        "https://[Secret9",
        "https://[Secret9]/",
        "https://gateway.example?key=Secret9",
        "https://gateway.example#Secret9",
        "https://gate\u2100Secret9/",
        "https://gate way/Secret9",
        "Secret9",
    ],
)
def test_a_base_url_that_cannot_be_used_is_refused_without_its_words(say, monkeypatch, url):
    monkeypatch.setenv("DATABASE_URL", "postgresql://u@127.0.0.1:1/x")
    monkeypatch.setenv("REPLICATE_BASE_URL", url)

    code, printed = say(main, "run")

    assert (code, printed.count("\n")) == (2, 1)
    assert printed.startswith("REPLICATE_BASE_URL: ")
    assert SECRET not in printed


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app:pw@db:5432/app?sslmode=require&application_name=x",
        "postgres://db,other/app?target_session_attrs=read-write",
        "POSTGRESQL://app@/app?host=/run/postgresql",
        "postgresql:///app?user=me%40server&password=p%40ss",
        "postgresql://[::1]:5432/app?options=-c%20work_mem%3D8MB",
        "postgresql://app:p%40ss%2Fw%3Ard%25@db/app",
        "postgresql://",
    ],
)
def test_a_url_that_can_be_read_in_one_way_is_taken(url):
    assert database_url(f" {url}\n").partition("://")[2] == url.partition("://")[2]


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("postgresql://u:p%40ss@db/x?password=other&sslpassword=third", ["p%40ss", "other", "third"]),
        ("postgresql:///x?password=p%40ss", ["p@ss"]),
        ("postgresql://u@db/x", []),
    ],
)
def test_every_password_of_a_url_is_a_secret(url, found):
    assert passwords(url) == found


@pytest.mark.parametrize("url", ["https://gateway.example/v2", "http://127.0.0.1:8788", "http://[::1]:8788"])
def test_a_base_url_is_a_host_and_a_path(url):
    assert base_url(f"{url}/ ") == url


def test_a_host_application_gets_no_word_of_a_broken_url(monkeypatch):
    with pytest.raises(SettingsError) as refused:
        Settings.load(_env_file=None, database_url=BROKEN[0], replicate_api_token="r8_x", fallback_censored_prompt="x")

    assert SECRET not in str(refused.value)
