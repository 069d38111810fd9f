"""What becomes of each parameter that libpq of PostgreSQL 14 to 18 takes, in a URL, a service file or the environment.

Each parameter is one of three kinds:

- honoured, by the driver or by us (target.py, tls.py, reach.py);
- without effect here, if it asks for no more than the default does: `channel_binding=prefer` works everywhere;
- refused at the start. The driver would send an unknown parameter to the server as a setting, and the server would
  refuse it at each try, as if the database were away.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reactor.urls import UrlError

if TYPE_CHECKING:
    from collections.abc import Mapping

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_NAME = re.compile(r"[a-z_][a-z0-9_.]{0,62}", re.ASCII | re.IGNORECASE)
_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,9}\s*", re.ASCII)
_TEXT = re.compile(r"(?s).*")


@dataclass(frozen=True, slots=True)
class Parameter:
    """`variable`: its name in the environment. `values`: those that are taken; `words` tells them to a user."""

    variable: str | None = None
    values: re.Pattern[str] = _TEXT
    words: str = ""
    advice: str = ""

    def check(self, name: str, value: str) -> None:
        """Raise UrlError if the value is not taken."""
        if not self.values.fullmatch(value):
            why = f": {self.advice}" if self.advice else ""
            raise UrlError(f"{name} {self.words}{why}")


def _among(variable: str | None, *values: str, advice: str = "") -> Parameter:
    """A parameter of a few values; '' counts as the default."""
    words = f"must be {' or '.join(filter(None, (', '.join(values[:-1]), values[-1])))}"
    return Parameter(variable, re.compile("|".join(map(re.escape, values)), re.IGNORECASE), words, advice)


def _number(variable: str | None) -> Parameter:
    return Parameter(variable, _NUMBER, "must be a number")


def _refused(variable: str | None, advice: str) -> Parameter:
    return Parameter(variable, re.compile(r"(?!)"), "cannot be used", advice)


_CANNOT_BIND = "the driver has no channel binding; sslmode=verify-full&sslrootcert=system proves the server as well"
_CANNOT_PROVE = "the driver cannot limit how the server asks for the password; sslmode=verify-full proves the server"
_WRITES = "reactor writes to the database"

PARAMETERS: Mapping[str, Parameter] = {
    # Where and as whom.
    "host": Parameter("PGHOST"),
    "hostaddr": Parameter(),
    "port": Parameter("PGPORT"),
    "dbname": Parameter("PGDATABASE"),
    "user": Parameter("PGUSER"),
    "password": Parameter("PGPASSWORD"),
    "passfile": Parameter("PGPASSFILE"),
    "service": Parameter("PGSERVICE"),
    "servicefile": Parameter("PGSERVICEFILE"),
    "target_session_attrs": _among("PGTARGETSESSIONATTRS", "any", "read-write", "primary", advice=_WRITES),
    "load_balance_hosts": _among("PGLOADBALANCEHOSTS", "disable", "random"),
    "options": Parameter("PGOPTIONS"),
    # How long.
    "connect_timeout": _number("PGCONNECT_TIMEOUT"),
    "keepalives": _number(None),
    "keepalives_idle": _number(None),
    "keepalives_interval": _number(None),
    "keepalives_count": _number(None),
    "tcp_user_timeout": _number(None),
    # TLS.
    "sslmode": _among("PGSSLMODE", *SSL_MODES),
    "sslnegotiation": _among("PGSSLNEGOTIATION", "postgres", "direct"),
    "sslrootcert": Parameter("PGSSLROOTCERT"),
    "sslcert": Parameter("PGSSLCERT"),
    "sslkey": Parameter("PGSSLKEY"),
    "sslpassword": Parameter(),
    "sslcertmode": _among("PGSSLCERTMODE", "disable", "allow", advice="the driver cannot insist on it"),
    "sslcrl": Parameter("PGSSLCRL"),
    "sslcrldir": Parameter("PGSSLCRLDIR"),
    "ssl_min_protocol_version": _among("PGSSLMINPROTOCOLVERSION", *TLS_VERSIONS),
    "ssl_max_protocol_version": _among("PGSSLMAXPROTOCOLVERSION", *TLS_VERSIONS),
    "krbsrvname": Parameter("PGKRBSRVNAME"),
    "gsslib": _among("PGGSSLIB", "gssapi"),
    # Without effect here. Our own application_name stays, because workers are counted by it.
    "application_name": Parameter(),
    "fallback_application_name": Parameter(),
    "sslcompression": _among(None, "0", "1"),  # ignored by libpq itself since PostgreSQL 14
    "sslsni": _among("PGSSLSNI", "1", advice="the driver always names the host"),
    "client_encoding": _among(None, "UTF8", "UTF-8", "unicode", "auto", advice="reactor speaks UTF-8"),
    "replication": _among(None, "false", "off", "no", "0", advice="it opens no session for statements"),
    "channel_binding": _among("PGCHANNELBINDING", "disable", "prefer", advice=_CANNOT_BIND),
    "gssencmode": _among(
        "PGGSSENCMODE", "disable", "prefer", advice="the driver has no GSSAPI encryption; use sslmode"
    ),
    "gssdelegation": _among("PGGSSDELEGATION", "0", advice="the driver delegates no credentials"),
    "min_protocol_version": _among("PGMINPROTOCOLVERSION", "3.0", advice="the driver speaks version 3.0"),
    "max_protocol_version": _among("PGMAXPROTOCOLVERSION", "3.0", "3.2", "latest"),
    # Refused.
    "require_auth": _refused("PGREQUIREAUTH", _CANNOT_PROVE),
    "requirepeer": _refused("PGREQUIREPEER", "the driver does not ask who serves a socket; remove it"),
    "sslkeylogfile": _refused(None, "the driver writes no keys down; remove it"),
    "scram_client_key": _refused(None, "the driver takes a password only"),
    "scram_server_key": _refused(None, "the driver takes a password only"),
    "oauth_issuer": _refused(None, "the driver has no OAuth; use a password"),
    "oauth_client_id": _refused(None, "the driver has no OAuth; use a password"),
    "oauth_client_secret": _refused(None, "the driver has no OAuth; use a password"),
    "oauth_scope": _refused(None, "the driver has no OAuth; use a password"),
}


def checked(given: Mapping[str, str], of: str = "") -> dict[str, str]:
    """The parameters that have a value, by libpq's names. `of` says where they are from. Raises UrlError."""
    # For the sake of JDBC, libpq takes this one value.
    renamed = dict(("sslmode", "require") if item == ("ssl", "true") else item for item in given.items())
    for name, value in renamed.items():
        parameter = PARAMETERS.get(name)
        if parameter is None:
            raise UrlError(_unknown(name))
        if value:
            parameter.check(f"{name}{of}", value)
    return {name: value for name, value in renamed.items() if value}


def of_the_environment() -> dict[str, str]:
    """The parameters that libpq takes from the environment. Raises UrlError."""
    found = {}
    for name, parameter in PARAMETERS.items():
        value = os.environ.get(parameter.variable, "") if parameter.variable else ""
        if value:
            parameter.check(str(parameter.variable), value)
            found[name] = value
    return found


def _unknown(name: str) -> str:
    if name == "ssl":
        return "ssl must be true; libpq calls all other modes sslmode"
    if not _NAME.fullmatch(name):
        return "has a parameter that libpq does not know"
    return (
        f"has a parameter that libpq does not know, {name}: remove it; a setting of the server is given as"
        f" options=-c%20{name}%3Dvalue"
    )
