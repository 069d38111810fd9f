"""No part of a password is printed, wherever it lands in a URL that was not percent-encoded."""

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace

import anyio
import pytest
from alembic.config import main as alembic
from hypothesis import example, given
from hypothesis import strategies as st
from test_migrations import CHECKOUT

from reactor.cli import main
from reactor.database.connections import ConnectionLostError, dial
from reactor.database.target import target_of
from reactor.settings import DatabaseSettings, Settings, SettingsError
from reactor.text.messages import unreachable
from reactor.text.redaction import Redactor
from reactor.urls import UrlError, base_url, database_url, passwords

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
    "postgresql://u:x@[Secret9]:1/x",
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
    "postgresql://u:x@127.0.0.1:1/x?ssl_min_protocol_version=Secret9",
    "postgresql://u:x@127.0.0.1:1/x?sslrootcert=/Secret9&sslmode=verify-full",
    "postgresql://u:x@127.0.0.1:1/x?sslcert=/Secret9",
    "postgresql://u@127.0.0.1:1/x?passfile=/Secret9",
    "postgresql://u:x@127.0.0.1:1/x?service=Secret9",
    "postgresql://u:Secret9@/x?host=127.0.0.1,127.0.0.1&port=1,1,1",
    "postgresql://u:x@/x?host=Secret9:Secret9",
    "postgresql://u:x@/x?hostaddr=Secret9&host=127.0.0.1",
    "postgresql://u:x@/x?host=@Secret9",
    "postgresql://u:x@127.0.0.1:1,[Secret9]:1/x",
    f"postgresql://u:Secret9@{'a' * 300}/x",
    f"postgresql://u:Secret9@/x?host=/{'a' * 100}",
    "postgresql://u:Secret9@%00/x",
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
    "postgresql://u:[Secret9@127.0.0.1:1/x",
    "postgresql://u:]Secret9@127.0.0.1:1/x",
    "postgresql://u:[Secret9]@127.0.0.1:1/x",
    "postgresql://u:\u2100Secret9@127.0.0.1:1/x",
    "postgresql://u:x@127.0.0.1:1/x?sslmode=require&sslpassword=Secret9",
]


def taken(url):
    """What a setting takes a URL for. Raises UrlError."""
    target = target_of(database_url(url))
    target.tls.tries()
    return target


@pytest.mark.parametrize("url", BROKEN)
def test_a_url_that_can_be_read_in_two_ways_is_refused_without_its_words(url):
    with pytest.raises(UrlError) as refused:
        taken(url)

    said = str(refused.value)
    assert SECRET not in said
    assert said in str([said])  # true for a printable text of one line


def without_passwords(target):
    return replace(target, hosts=[replace(host, password=None) for host in target.hosts])


@given(
    *(st.text(st.sampled_from("/?#@:[]%&=+ ;,\\'\"12ab\n\t\xa0\u2100\uff0f"), max_size=4) for _ in range(2)),
    st.sampled_from(["", "u:", "u:12", "u:x&a=", "u:x?a=1&b="]),
    st.sampled_from(["", "?options=1", "?sslmode=disable", "?port=1"]),
)
@example("12?", "", "u:", "")
def test_whatever_a_password_holds_it_is_found_nowhere_else(before, after, user, options):
    url = f"postgresql://{user}{before}{SECRET}{after}@127.0.0.1:1/x{options}"
    found, said = tried(taken, url)

    assert SECRET not in f"{said}{said and unreachable(said)}"
    assert user == "" or found is None or SECRET not in repr(without_passwords(found))  # a user's name is no secret
    assert user == "" or found is None or SECRET in "".join(passwords(url))


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


def test_only_our_own_words_about_a_url_are_told():
    told = [unreachable(said) for said in (ValueError("invalid literal: 'Secret9'"), UnicodeError("Secret9"))]

    assert told == ["cannot reach the database: its URL cannot be used"] * 2
    assert unreachable(UrlError("service is not there")) == "cannot reach the database: service is not there"


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
        monkeypatch.setenv("DATABASE_URL", url)

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
        "https://127.1/Secret9",
        "https://256.1.1.1/Secret9",
        "https://Secret9\\x",
        "https://\u2603.example/Secret9",
        "https://[v1.a]/Secret9",
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
        "postgresql://me%40server:p%40ss@/app",
        "postgresql:///app?user=me%40server&password=p%40ss",
        "postgresql://[::1]:5432/app?options=-c%20work_mem%3D8MB",
        "postgresql://app:p%40ss%2Fw%3Ard%25@db/app",
        "postgresql://",
    ],
)
def test_a_url_that_can_be_read_in_one_way_is_taken(url):
    assert database_url(f" {url}\n").partition("://")[2] == url.partition("://")[2]
    assert taken(url)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("postgresql://u:p%40ss@db/x?password=other&sslpassword=third", ["p@ss", "other", "third"]),
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
