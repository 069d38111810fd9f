"""Takes a database's URL apart: every parameter that libpq takes is honoured, has no effect, or is refused.

As in libpq, the URL's query wins over the rest of the URL, that over the service file, and that over the environment.
"""

from __future__ import annotations

import getpass
import ipaddress
import os
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from reactor.database.libpq_files import password_for, service
from reactor.database.parameters import checked, of_the_environment
from reactor.database.tls import Tls, tls_of
from reactor.urls import UnreadableUrlError, UrlError, parts_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# If no host is named: where servers put their socket, as the driver looks for it.
_SOCKETS = ("/run/postgresql", "/var/run/postgresql", "/tmp", "localhost")  # noqa: S108  (nothing is written there)
_PORT = "5432"
_LONGEST_SOCKET = 103  # bytes of a socket's path, where the system allows the least

# What TCP does about a peer that has vanished: the parameter, the socket's option, and our default, in its unit.
_KEEPALIVE = (
    ("keepalives_idle", "TCP_KEEPIDLE", 5),
    ("keepalives_interval", "TCP_KEEPINTVL", 2),
    ("keepalives_count", "TCP_KEEPCNT", 3),
    ("tcp_user_timeout", "TCP_USER_TIMEOUT", 10_000),
)


@dataclass(frozen=True, slots=True)
class Host:
    """A server's name, address, or the folder of its socket; and the password for it."""

    name: str
    port: int
    password: str | None = field(repr=False)

    @property
    def has_socket(self) -> bool:
        """Whether it is reached by a socket of this machine: then there is no TLS."""
        return self.name.startswith("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a URL asks for."""

    hosts: Sequence[Host]
    user: str
    database: str
    tls: Tls
    # Which server to take, and which if none of the hosts is such a one.
    session_attributes: Sequence[str]
    shuffled: bool
    settings: Mapping[str, str]  # startup parameters
    connect_within: float | None  # seconds for one host; None: our own bound
    keepalive: Mapping[str, int]  # options of a TCP socket; empty: none is set
    gssapi: Mapping[str, str]  # the driver's arguments

    def in_order(self) -> Sequence[Host]:
        """The hosts in the order in which to try them."""
        return random.sample(self.hosts, len(self.hosts)) if self.shuffled else self.hosts

    @property
    def passwords(self) -> list[str]:
        """The passwords, wherever they are from."""
        return [host.password for host in self.hosts if host.password]


def target_of(url: str) -> Target:
    """Take apart what `database_url` returned. Raises UrlError, whose message repeats no value."""
    given = _given(url)
    names, ports = _hosts(given), given.get("port", _PORT).split(",")
    ports = ports * len(names) if len(ports) == 1 else ports
    if len(ports) != len(names):
        raise UrlError("must name one port for each host, or one for all")
    user = given.get("user") or _system_user()
    database = given.get("dbname") or user
    attributes = given.get("target_session_attrs", "any").lower()
    return Target(
        hosts=[_host(name, port, user, database, given) for name, port in zip(names, ports, strict=True)],
        user=user,
        database=database,
        tls=tls_of(given),
        # Of several hosts we want the one that takes writes, also after a switchover.
        session_attributes=("read-write", "any") if attributes == "any" and len(names) > 1 else (attributes,),
        shuffled=given.get("load_balance_hosts", "").lower() == "random",
        settings={"options": given["options"]} if "options" in given else {},
        connect_within=_positive(given, "connect_timeout"),
        keepalive=_keepalive(given),
        gssapi={name: given[name] for name in ("krbsrvname", "gsslib") if name in given},
    )


def _given(url: str) -> Mapping[str, str]:
    parts = parts_of(url)
    hosts, ports = _netloc(parts.hosts)
    before = {"user": parts.user, "password": parts.password, "host": hosts, "port": ports, "dbname": parts.database}
    ours = checked({name: value for name, value in before.items() if value} | dict(parts.parameters))
    theirs = of_the_environment()
    wanted = ours.get("service") or theirs.get("service")
    if wanted:
        file = ours.get("servicefile") or theirs.get("servicefile")
        ours = checked(service(wanted, file), " of the service") | ours
    if "host" in ours and "port" not in ours:
        theirs.pop("port", None) if "," in theirs.get("port", "") else None
    return theirs | ours


def _netloc(hosts: str) -> tuple[str, str]:
    """The hosts before the path, and their ports, both separated by commas. Raises UrlError."""
    names, ports = [], []
    for host in hosts.split(",") if hosts else ():
        bracket = host.rfind("]")
        name, _, port = host[bracket + 1 :].partition(":")
        if bracket >= 0:
            if name or not host.startswith("[") or not _is_ipv6(host[1:bracket]):
                raise UnreadableUrlError
            name = host[1:bracket]
        names.append(unquote(name))
        ports.append(unquote(port))
        if not set(",\0").isdisjoint(names[-1]) or not _is_port(ports[-1] or _PORT):
            raise UnreadableUrlError
    return ",".join(names), ",".join(port or _PORT for port in ports) if any(ports) else ""


def _hosts(given: Mapping[str, str]) -> Sequence[str]:
    if "hostaddr" in given and given.get("host", given["hostaddr"]) != given["hostaddr"]:
        raise UrlError("hostaddr cannot be used beside a host: name one of them")
    named = given.get("host") or given.get("hostaddr")
    return named.split(",") if named else _SOCKETS


def _host(name: str, port: str, user: str, database: str, given: Mapping[str, str]) -> Host:
    _check_host(name)
    if port and not _is_port(port):
        raise UrlError("port must be a number from 1 to 65535")
    number = int(port or _PORT)
    password = given.get("password") or password_for(
        given.get("passfile"), host=name, port=number, database=database, user=user
    )
    return Host(name, number, password)


def _check_host(name: str) -> None:
    if name.startswith("/"):
        if len(os.fsencode(name)) > _LONGEST_SOCKET - len("/.s.PGSQL.65535"):
            raise UrlError("host: the path of the socket is too long")
        return
    try:
        known = _is_ipv6(name) or (":" not in name and bool(name.encode("idna")))
    except UnicodeError:
        known = False
    if not known or name.startswith("@"):
        raise UrlError("host must be a name, an address, or the folder of a socket, which begins with /")


def _is_ipv6(text: str) -> bool:
    try:
        return bool(ipaddress.IPv6Address(text))
    except ValueError:
        return False


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text[:6]) < 65536


def _positive(given: Mapping[str, str], name: str) -> float | None:
    """The number, if it is positive. As in libpq, 0 means the default."""
    number = int(given.get(name, "0"))
    return float(number) if number > 0 else None


def _keepalive(given: Mapping[str, str]) -> Mapping[str, int]:
    if int(given.get("keepalives", "1")) == 0:
        return {}
    return {option: int(_positive(given, name) or default) for name, option, default in _KEEPALIVE}


def _system_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        raise UrlError("names no user, and the system has no name for the one who runs this") from None
