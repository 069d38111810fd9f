import os

import pytest
from doubles import settings as given

from reactor.environment import LARGEST_FILE
from reactor.settings import DatabaseSettings, Settings, SettingsError

GOOD = {
    "DATABASE_URL": "postgresql://app:pw-in-the-url@db/app",
    "REPLICATE_API_TOKEN": "r8_made_up_token",
    "FALLBACK_CENSORED_PROMPT": "a calm sea",
}


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """Remove the machine's own settings."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name}_FILE".upper(), raising=False)


@pytest.fixture
def load(monkeypatch):
    """Load settings from GOOD and the given variables; None removes a variable."""

    def loaded(**environment):
        for name, value in {**GOOD, **environment}.items():
            if value is not None:
                monkeypatch.setenv(name, value)
        return Settings.load()

    return loaded


def test_defaults_are_those_of_the_contract(load):
    settings = load()

    assert settings.replicate_model_version == "black-forest-labs/flux-schnell"
    assert (settings.poll_interval_seconds, settings.worker_batch_size, settings.max_attempts) == (5, 10, 3)
    assert (settings.generation_timeout_seconds, settings.lease_seconds, settings.shutdown_grace_seconds) == (
        300,
        60,
        20,
    )
    assert (settings.rate_limit_per_minute, settings.count_rate_limits, settings.breaker_threshold) == (600, False, 5)
    assert (settings.tokens_table, settings.http_host, settings.http_port) == ("tokens_s0", "127.0.0.1", 8787)
    assert (settings.log_level, settings.default_prompt, settings.replicate_seed_input) == ("INFO", None, "seed")


def test_all_that_is_missing_is_named_at_once():
    with pytest.raises(SettingsError) as caught:
        Settings.load()

    assert str(caught.value).split("\n") == [
        "DATABASE_URL: is required (or DATABASE_URL_FILE)",
        "REPLICATE_API_TOKEN: is required (or REPLICATE_API_TOKEN_FILE)",
        "FALLBACK_CENSORED_PROMPT: is required",
    ]


@pytest.mark.parametrize("blank", ["", " ", "\n"])
def test_what_is_blank_is_missing_and_named_along_with_what_is_wrong(load, tmp_path, blank):
    (tmp_path / "blank").write_text(blank)
    unreadable = tmp_path / "nothing"

    with pytest.raises(SettingsError) as caught:
        load(
            DATABASE_URL=blank,
            REPLICATE_API_TOKEN=None,
            REPLICATE_API_TOKEN_FILE=str(tmp_path / "blank"),
            FALLBACK_CENSORED_PROMPT=blank,
            MAX_ATTEMPTS="0",
            HTTP_TOKEN_FILE=str(unreadable),
        )

    assert sorted(str(caught.value).split("\n")) == [
        "DATABASE_URL: is required (or DATABASE_URL_FILE)",
        "FALLBACK_CENSORED_PROMPT: is required",
        f"HTTP_TOKEN_FILE: cannot read {unreadable}: No such file or directory",
        "MAX_ATTEMPTS: Input should be greater than or equal to 1",
        "REPLICATE_API_TOKEN: is required (or REPLICATE_API_TOKEN_FILE)",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://db/app"),
        ("DATABASE_URL", "postgresql://db:port/app"),
        ("DATABASE_URL", "postgresql://db:99999/app"),
        ("LISTEN_DATABASE_URL", "nonsense"),
        ("REPLICATE_API_TOKEN", "  "),
        ("REPLICATE_API_TOKEN", "r8_über"),
        ("REPLICATE_MODEL_VERSION", "flux"),
        ("REPLICATE_MODEL_VERSION", "a/b/c"),
        ("REPLICATE_MODEL_INPUT", "[1]"),
        ("REPLICATE_MODEL_INPUT", "{"),
        ("REPLICATE_BASE_URL", "api.replicate.com"),
        ("REPLICATE_BASE_URL", "https://api.replicate.com/v1"),
        ("REPLICATE_API_PREFIX", "/v1?a"),
        ("REPLICATE_API_PREFIX", "/a//b"),
        ("REPLICATE_API_PREFIX", "/ä"),
        ("FALLBACK_CENSORED_PROMPT", " "),
        ("FALLBACK_CENSORED_PROMPT", "x" * 1001),
        ("DEFAULT_PROMPT", "x" * 1001),
        ("POLL_INTERVAL_SECONDS", "0.05"),
        ("POLL_INTERVAL_SECONDS", "3601"),
        ("POLL_INTERVAL_SECONDS", "nan"),
        ("POLL_INTERVAL_SECONDS", "soon"),
        ("WORKER_BATCH_SIZE", "0"),
        ("WORKER_BATCH_SIZE", "1001"),
        ("MAX_ATTEMPTS", "0"),
        ("GENERATION_TIMEOUT_SECONDS", "0.5"),
        ("LEASE_SECONDS", "0.5"),
        ("LEASE_SECONDS", "inf"),
        ("SHUTDOWN_GRACE_SECONDS", "-1"),
        ("RATE_LIMIT_PER_MINUTE", "-1"),
        ("COUNT_RATE_LIMITS", "maybe"),
        ("BREAKER_THRESHOLD", "-1"),
        ("TOKENS_TABLE", "tokens; DROP TABLE tokens"),
        ("TOKENS_TABLE", "a.b.c"),
        ("HTTP_PORT", "65536"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_a_bad_value_is_one_line_that_names_it(load, name, value):
    with pytest.raises(SettingsError) as caught:
        load(**{name: value})

    (line,) = str(caught.value).split("\n")
    assert line.startswith(f"{name}: ")
    assert value.strip() == "" or value not in line


def test_a_proxy_that_cannot_be_used_is_one_line_without_its_password(load, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "socks5://u:Secret9@proxy")
    with pytest.raises(SettingsError) as caught:
        load()

    assert str(caught.value) == "HTTPS_PROXY: must be http://host:port or https://host:port"


def test_a_port_off_loopback_needs_a_token(load, monkeypatch):
    with pytest.raises(SettingsError, match=r"^HTTP_TOKEN: is required"):
        load(HTTP_HOST="0.0.0.0")  # noqa: S104  (it is refused)

    monkeypatch.setenv("HTTP_TOKEN", "a-long-token")
    assert load(HTTP_HOST="0.0.0.0").http_token is not None  # noqa: S104


def test_a_token_to_look_with_needs_one_to_act_with(load):
    with pytest.raises(SettingsError) as caught:
        load(HTTP_READ_TOKEN="a-token-to-look-with")

    assert str(caught.value) == "HTTP_READ_TOKEN: requires HTTP_TOKEN, without which nobody could act"
    assert load(HTTP_TOKEN="a-long-token").http_read_token is not None


def test_the_http_token_is_one_that_a_header_can_carry(load, monkeypatch):
    monkeypatch.setenv("HTTP_TOKEN", " a-long-token\n")
    assert load().http_token.get_secret_value() == "a-long-token"

    monkeypatch.setenv("HTTP_TOKEN", "a\nb")
    with pytest.raises(SettingsError, match=r"^HTTP_TOKEN: has characters"):
        load()


@pytest.mark.parametrize("value", ["127.0.0.1", "::1", "localhost"])
def test_a_port_on_loopback_needs_none(load, value):
    assert load(HTTP_HOST=value).http_host == value


def test_a_secret_may_stand_in_a_file(load, monkeypatch, tmp_path):
    (tmp_path / "token").write_text("r8_from_a_file\n")
    settings = load(REPLICATE_API_TOKEN=None, REPLICATE_API_TOKEN_FILE=str(tmp_path / "token"))

    assert settings.replicate_api_token.get_secret_value() == "r8_from_a_file"


def test_the_environment_wins_over_a_file_and_a_file_over_dotenv(load, tmp_path):
    (tmp_path / ".env").write_text("REPLICATE_API_TOKEN=from_dotenv\nMAX_ATTEMPTS=7\nSOMETHING_ELSE=1\n")
    (tmp_path / "token").write_text("from_file")

    settings = load(REPLICATE_API_TOKEN=None, REPLICATE_API_TOKEN_FILE=str(tmp_path / "token"))
    assert (settings.replicate_api_token.get_secret_value(), settings.max_attempts) == ("from_file", 7)

    settings = load(REPLICATE_API_TOKEN="from_environment")
    assert settings.replicate_api_token.get_secret_value() == "from_environment"


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_an_unreadable_secret_file_is_one_line(load, tmp_path, content):
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(SettingsError, match=f"^REPLICATE_API_TOKEN_FILE: cannot read {path}: "):
        load(REPLICATE_API_TOKEN=None, REPLICATE_API_TOKEN_FILE=str(path))


def fifo(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def folder(path):
    path.mkdir()


def large(path):
    path.write_bytes(b"x" * (LARGEST_FILE + 1))


def endless(path):
    with path.open("wb") as file:
        file.truncate(2**40)


UNFIT = {
    fifo: "not a regular file",
    device: "not a regular file",
    large: "more than 64 kB",
    endless: "more than 64 kB",
}


@pytest.mark.parametrize("name", ["DATABASE_URL", "REPLICATE_API_TOKEN", "HTTP_TOKEN"])
@pytest.mark.parametrize(("make", "said"), [*UNFIT.items(), (folder, "not a regular file")])
def test_a_secret_is_read_from_a_regular_file_and_from_nothing_else(load, tmp_path, name, make, said):
    path = tmp_path / "secret"
    make(path)

    with pytest.raises(SettingsError) as refused:
        load(**{name: None, f"{name}_FILE": str(path)})

    assert refused.value.problems == [f"{name}_FILE: cannot read {path}: {said}"]


def test_a_secret_of_the_largest_size_behind_a_link_is_read(load, tmp_path):
    (tmp_path / "data").write_text("x" * LARGEST_FILE)
    (tmp_path / "secret").symlink_to("data")

    settings = load(REPLICATE_API_TOKEN=None, REPLICATE_API_TOKEN_FILE=str(tmp_path / "secret"))

    assert len(settings.replicate_api_token.get_secret_value()) == LARGEST_FILE


@pytest.mark.parametrize(("make", "said"), UNFIT.items())
def test_a_dotenv_is_a_regular_file_too(load, tmp_path, make, said):
    make(tmp_path / ".env")

    with pytest.raises(SettingsError) as refused:
        load()

    assert refused.value.problems == [f".env: cannot read it: {said}"]


def test_a_folder_of_that_name_is_no_dotenv_and_told_where_something_is_missing(load, tmp_path):
    (tmp_path / ".env").mkdir()

    assert load().max_attempts == 3
    with pytest.raises(SettingsError) as refused:
        load(MAX_ATTEMPTS="0")

    assert refused.value.problems[-1] == ".env: is a folder, so nothing is read from it"


def test_a_file_name_that_is_none_is_one_line(load, tmp_path):
    (tmp_path / ".env").write_bytes(b"HTTP_TOKEN_FILE=a\x00b\n")

    with pytest.raises(SettingsError, match=r"^HTTP_TOKEN_FILE: cannot read it \([^\x00]*\): not the name of a file$"):
        load()


@pytest.mark.parametrize(
    "secret",
    [
        "postgresql://u:Secret9@db/x",
        "//u:Secret9@db/x",
        "r8_Secret9",
        "/r8_Secret9",
        "Secret9",
        "aSecret9/bcd",
        "/aSecret9+bcd=",
        "/a\x1b[2JSecret9",
        "./Secret9\nr8_Secret9",
    ],
)
@pytest.mark.parametrize("name", ["DATABASE_URL", "REPLICATE_API_TOKEN", "HTTP_TOKEN"])
def test_a_secret_that_was_given_for_the_file_of_one_is_not_repeated(load, name, secret):
    with pytest.raises(SettingsError, match=f"^{name}_FILE: cannot read it .*: give the path of a file") as refused:
        load(**{name: None, f"{name}_FILE": secret})

    assert "Secret9" not in str(refused.value)


def test_no_command_waits_for_a_secret_that_never_comes(reactor, monkeypatch, tmp_path):
    fifo(tmp_path / "secret")
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "secret"))

    told = {reactor(*words.split()) for words in ("run", "status", "migrate", "show 1", "pause", "mint")}

    assert {(code, out) for code, out, _ in told} == {(2, "")}
    assert {err.splitlines()[0] for *_, err in told} == {
        f"DATABASE_URL_FILE: cannot read {tmp_path / 'secret'}: not a regular file"
    }


def test_an_unreadable_dotenv_is_one_line(load, tmp_path):
    (tmp_path / ".env").write_bytes(b"DATABASE_URL=\xff")

    with pytest.raises(SettingsError, match=r"^\.env: cannot read it: not UTF-8 text$"):
        load()


def test_a_token_loses_the_newline_that_came_with_it(load):
    settings = load(REPLICATE_API_TOKEN="r8_made_up_token\n")

    assert settings.replicate_api_token.get_secret_value() == "r8_made_up_token"


def test_no_secret_shows_when_settings_are_printed(load):
    settings = load(HTTP_TOKEN="a-long-token")

    for secret in ("pw-in-the-url", "r8_made_up_token", "a-long-token"):
        assert secret not in repr(settings) + str(settings)
        assert secret in settings.secrets()


def test_an_sqlalchemy_url_is_understood(load):
    settings = load(DATABASE_URL="postgresql+asyncpg://app@/app?host=/run/postgresql")

    assert settings.database_url.get_secret_value() == "postgresql://app@/app?host=/run/postgresql"


@pytest.mark.parametrize(
    ("given", "prefix"), [("", ""), (" / ", ""), ("/v1", "/v1"), ("v2/", "/v2"), ("/a/b.c-d~e", "/a/b.c-d~e")]
)
def test_the_apis_prefix_is_a_path_or_nothing(load, given, prefix):
    assert load(REPLICATE_API_PREFIX=given).replicate_api_prefix == prefix


def test_a_base_url_may_end_with_v1_if_nothing_is_added_to_it(load):
    url = "https://gateway.example/v1"

    assert load(REPLICATE_BASE_URL=url, REPLICATE_API_PREFIX="").replicate_base_url == url


def test_a_base_url_that_has_the_prefix_already_is_refused_by_name(load):
    with pytest.raises(SettingsError, match=r"^REPLICATE_BASE_URL: must not end with /v2: REPLICATE_API_PREFIX"):
        load(REPLICATE_BASE_URL="https://gateway.example/v2/", REPLICATE_API_PREFIX="v2")


EMPTY_MEANS_NONE = {"replicate_seed_input", "replicate_api_prefix"}


@pytest.mark.parametrize("blank", ["", " ", '""', "''"])
def test_an_empty_variable_is_none_but_where_empty_says_something(load, tmp_path, blank):
    optional = [name for name in Settings.model_fields if name.upper() not in GOOD]
    (tmp_path / ".env").write_text("".join(f"{name.upper()}=\n" for name in optional if name not in EMPTY_MEANS_NONE))

    settings = load(**{name.upper(): blank for name in optional})

    told = {name: getattr(settings, name) for name in optional}
    defaults = {name: Settings.model_fields[name].get_default(call_default_factory=True) for name in optional}
    assert {name for name in optional if told[name] != defaults[name]} == EMPTY_MEANS_NONE
    assert {told[name].strip() for name in EMPTY_MEANS_NONE} == {""}


def test_an_empty_variable_leaves_it_to_dotenv(load, tmp_path):
    (tmp_path / ".env").write_text("MAX_ATTEMPTS=7\n")

    assert load(MAX_ATTEMPTS="").max_attempts == 7


def test_what_the_caller_gives_wins_and_a_blank_is_none(load):
    load()

    settings = Settings.load(replicate_api_token="given", http_token="", default_prompt=" ")

    assert settings.replicate_api_token.get_secret_value() == "given"
    assert settings.http_token is settings.default_prompt is None


@pytest.mark.parametrize("quote", ["'", '"'])
def test_quotes_that_docker_keeps_are_taken_off(load, quote):
    quoted = {name: f"{quote}{value}{quote}" for name, value in GOOD.items()}

    settings = load(**quoted, MAX_ATTEMPTS=f"{quote}7{quote} ", REPLICATE_MODEL_INPUT="'{\"a\": 1}'")

    assert settings.replicate_api_token.get_secret_value() == GOOD["REPLICATE_API_TOKEN"]
    assert settings.database_url.get_secret_value() == GOOD["DATABASE_URL"]
    assert (settings.fallback_censored_prompt, settings.max_attempts) == ("a calm sea", 7)
    assert settings.replicate_model_input == {"a": 1}


@pytest.mark.parametrize("prompt", ['"Hope" and "fear"', "'tis the sea", 'a sea named "Blue"', "'"])
def test_quotes_that_are_the_prompts_own_stay(load, prompt):
    assert load(FALLBACK_CENSORED_PROMPT=prompt).fallback_censored_prompt == prompt


@pytest.mark.parametrize("value", ["tcp://10.0.0.1:80", "udp://10.0.0.1:80", "tcp://[fd00::1]:80"])
def test_what_kubernetes_sets_for_a_service_named_http_is_no_port(load, value):
    assert load(HTTP_PORT=value).http_port == 8787


@pytest.mark.parametrize("secret", ["a${NAME}b", "${MAX_ATTEMPTS}", "pa$$word", "$1"])
def test_a_dollar_in_dotenv_is_a_dollar(load, tmp_path, secret):
    (tmp_path / ".env").write_text(f"HTTP_TOKEN={secret}\n")

    assert load(MAX_ATTEMPTS="7").http_token.get_secret_value() == secret


def test_a_dotenv_may_name_the_file_of_a_secret(load, tmp_path):
    (tmp_path / "token").write_bytes(b"\xef\xbb\xbfr8_from_a_file\r\n")
    (tmp_path / ".env").write_bytes(
        b"\xef\xbb\xbfREPLICATE_API_TOKEN_FILE=token\r\nexport HTTP_TOKEN=plain\r\nHTTP_TOKEN_FILE=nothing\r\n"
    )

    settings = load(REPLICATE_API_TOKEN=None)

    assert settings.replicate_api_token.get_secret_value() == "r8_from_a_file"
    assert settings.http_token.get_secret_value() == "plain"


def test_a_file_that_dotenv_names_and_that_cannot_be_read_is_one_line(load, tmp_path):
    (tmp_path / ".env").write_text("REPLICATE_API_TOKEN_FILE=./nothing\n")

    with pytest.raises(SettingsError, match=r"^REPLICATE_API_TOKEN_FILE: cannot read \./nothing: No such file"):
        load(REPLICATE_API_TOKEN=None)


def test_a_secret_that_looks_like_a_url_is_a_secret(load):
    settings = load(HTTP_TOKEN="postgres://x", REPLICATE_API_TOKEN="r8://a@b@c")

    assert {"postgres://x", "r8://a@b@c"} <= set(settings.secrets())


def test_commands_about_the_database_need_nothing_else(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql:///app")

    assert DatabaseSettings.load().tokens_table == "tokens_s0"


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("daily_budget", ["-1", "1.5", "many"]),
        ("history_days", ["-1", "0.5", "36501"]),
        ("price_per_image", ["-0.01", "NaN", "Infinity", "0,003", "1e7", "0.0000000000001"]),
    ],
)
def test_what_is_no_amount_is_refused_by_name(name, bad):
    for value in bad:
        with pytest.raises(SettingsError) as refused:
            given("postgresql://x/y", **{name: value})
        assert len(refused.value.problems) == 1
        assert refused.value.problems[0].startswith(f"{name.upper()}: ")


def test_a_price_is_exact():
    assert str(given("postgresql://x/y", price_per_image="0.003").price_per_image) == "0.003"
    assert given("postgresql://x/y").price_per_image is None
