"""Every setting: its name in the environment, default, unit and bound. No other module reads a setting."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from reactor.environment import Unreadable, given, is_folder, is_given, reason
from reactor.hosts import is_loopback
from reactor.providers.proxies import proxy_of
from reactor.rotation import SECRETS, Rotation, usable_token, usable_url
from reactor.urls import DEFAULT_BASE_URL, base_url

if TYPE_CHECKING:
    from reactor.secret import Secret
    from reactor.text.redaction import Redactor

_DOTENV = "dotenv"  # the argument that carries the path of `.env` to our source
_MODEL = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?|[0-9a-f]{64}")
_PATH = re.compile(r"([\w.~-]+(/[\w.~-]+)*)?", re.ASCII)
_TABLE = re.compile(r"([^\W\d][\w$]*\.)?[^\W\d][\w$]*")


class SettingsError(Exception):
    """Settings are missing or bad. Each problem is one line that names the setting and never shows a secret."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _api_prefix(value: str) -> str:
    path = value.strip().strip("/")
    if not _PATH.fullmatch(path):
        raise ValueError("is not a path, like /v1")
    return f"/{path}" if path else ""


def _base_url(value: str | None, given: ValidationInfo) -> str | None:
    if value is None:
        return None
    url, prefix = base_url(value), given.data.get("replicate_api_prefix")
    if prefix and urlsplit(url).path.endswith(prefix):
        raise ValueError(f"must not end with {prefix}: REPLICATE_API_PREFIX is added to it")
    return url


def _matching(pattern: re.Pattern[str], what: str) -> AfterValidator:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(f"is not {what}")
        return value

    return AfterValidator(check)


def _json_object(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise ValueError("is not a JSON object")  # noqa: TRY004  (pydantic turns a ValueError into a report)
    return parsed


def _without_nul(value: str) -> str:
    if "\x00" in value:
        raise ValueError("has characters that are no text")
    return value


DatabaseUrl = Annotated[SecretStr, AfterValidator(usable_url)]
Prompt = Annotated[str, Field(max_length=1000), AfterValidator(_without_nul)]
Seconds = Annotated[float, Field(allow_inf_nan=False)]
Price = Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=12, allow_inf_nan=False)]


class DatabaseSettings(BaseSettings):
    """The settings of every command that uses the database."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    database_url: DatabaseUrl
    listen_database_url: DatabaseUrl | None = None
    tokens_table: Annotated[str, _matching(_TABLE, "a table name, optionally schema.table")] = "tokens_s0"
    prompt_sql: Annotated[str, Field(min_length=1), AfterValidator(_without_nul)] | None = None
    history_days: Annotated[int, Field(ge=0, le=36500)] = 30
    daily_budget: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(lambda v: v.upper() if isinstance(v, str) else v)
    ] = "INFO"
    log_format: Literal["json", "console"] | None = None  # None: console on a terminal, else json
    _rotation: Rotation = PrivateAttr()

    def __init__(self, _env_file: Path | str | None = ".env", **given: Any) -> None:
        """Read `.env` by our own source, because pydantic's would wait for a FIFO and read a device without end."""
        by_caller = {name for name, value in given.items() if is_given(name, _plain(value))}
        given[_DOTENV] = _env_file
        super().__init__(_env_file=None, **given)
        values = {name: _plain(getattr(self, name, None)) for name in SECRETS}
        secrets = {name: value for name, value in values.items() if value is not None}
        self._rotation = Rotation(secrets, by_caller=by_caller, dotenv=Path(_env_file) if _env_file else None)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use one source of our own for everything: see environment.py."""
        del env_settings, dotenv_settings, file_secret_settings  # the signature is pydantic's
        return (_Given(settings_cls, init_settings),)

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Read the environment and `.env`. Raises one SettingsError with all problems."""
        try:
            return cls(**overrides)
        except ValidationError as error:
            problems = [_line(problem) for problem in error.errors()]
            if is_folder(overrides.get("_env_file", ".env")):
                problems.append(".env: is a folder, so nothing is read from it")
            raise SettingsError(problems) from None
        except (OSError, ValueError) as error:
            raise SettingsError([f".env: cannot read it: {reason(error)}"]) from None

    def secrets(self) -> list[str]:
        """The values that no log and no stored text may contain, passwords inside URLs included."""
        return self._rotation.known

    @property
    def redact(self) -> Redactor:
        """Removes the secrets from a text, also those that were read again since."""
        return self._rotation.redact

    def secret(self, name: str) -> Secret:
        """The secret of that name, the same object at each call: once it is refused, it is read again."""
        return self._rotation.secrets[name]

    @property
    def listening(self) -> Secret:
        """The URL for connections that must be direct."""
        return self.secret("database_url" if self.listen_database_url is None else "listen_database_url")


class Settings(DatabaseSettings):
    """The settings of `run`. Durations are seconds."""

    replicate_api_token: Annotated[SecretStr, AfterValidator(usable_token)]
    replicate_model_version: Annotated[str, _matching(_MODEL, "owner/name, owner/name:version or a version id")] = (
        "black-forest-labs/flux-schnell"
    )
    replicate_model_input: Annotated[dict[str, Any], NoDecode, BeforeValidator(_json_object)] = Field(
        default_factory=dict
    )
    replicate_api_prefix: Annotated[str, AfterValidator(_api_prefix)] = "/v1"
    replicate_base_url: Annotated[str | None, AfterValidator(_base_url)] = None
    replicate_seed_input: str = "seed"
    fallback_censored_prompt: Prompt
    default_prompt: Prompt | None = None
    poll_interval_seconds: Annotated[Seconds, Field(ge=0.1, le=3600)] = 5.0
    worker_batch_size: Annotated[int, Field(ge=1, le=1000)] = 10
    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 3
    generation_timeout_seconds: Annotated[Seconds, Field(ge=1, le=86400)] = 300.0
    lease_seconds: Annotated[Seconds, Field(ge=1, le=86400)] = 60.0
    shutdown_grace_seconds: Annotated[Seconds, Field(ge=0, le=86400)] = 20.0
    rate_limit_per_minute: Annotated[int, Field(ge=0, le=1_000_000)] = 600
    count_rate_limits: bool = False
    breaker_threshold: Annotated[int, Field(ge=0, le=1_000_000)] = 5
    price_per_image: Price | None = None
    http_host: str = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65535)] = 8787
    http_token: Annotated[SecretStr, AfterValidator(usable_token)] | None = None
    http_read_token: Annotated[SecretStr, AfterValidator(usable_token)] | None = None

    @model_validator(mode="after")
    def _usable_http_tokens(self) -> Self:
        if self.http_port and self.http_token is None and not is_loopback(self.http_host):
            raise ValueError("HTTP_TOKEN: is required where HTTP_HOST is not a loopback address")
        if self.http_read_token is not None and self.http_token is None:
            raise ValueError("HTTP_READ_TOKEN: requires HTTP_TOKEN, without which nobody could act")
        if self.http_read_token is not None and self.http_token == self.http_read_token:
            raise ValueError("HTTP_READ_TOKEN: must not be HTTP_TOKEN, because who may look could act")
        return self

    @model_validator(mode="after")
    def _usable_proxy(self) -> Self:
        proxy_of(self.replicate_base_url or DEFAULT_BASE_URL)
        return self


class _Given(PydanticBaseSettingsSource):
    """The caller's arguments first, then the environment and `.env`. An empty value counts as not set."""

    def __init__(self, settings_cls: type[BaseSettings], by_caller: PydanticBaseSettingsSource) -> None:
        super().__init__(settings_cls)
        self._by_caller = by_caller

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        del field  # the signature is pydantic's
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        by_caller = self._by_caller()
        dotenv = by_caller.get(_DOTENV)
        passed = {name: value for name, value in by_caller.items() if name != _DOTENV and is_given(name, _plain(value))}
        path = Path(dotenv) if dotenv is not None else None
        return given(self.settings_cls.model_fields, secrets=SECRETS, dotenv=path) | passed


def _plain(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _line(problem: Any) -> str:
    if isinstance(problem["input"], Unreadable):
        return problem["input"].line
    name = ".".join(str(part) for part in problem["loc"][:1]).upper()
    if problem["type"] == "missing":
        hint = f" (or {name}_FILE)" if name.lower() in SECRETS else ""
        return f"{name}: is required{hint}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{name}: {message}" if name else message
