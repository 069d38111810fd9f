"""Opens a connection to the first host of a URL that serves, as libpq does. All connections are opened here."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reactor.database.target import Host, Target
    from reactor.database.tls import Tls

ENCODING = "UTF8"
# Hosts that refused TLS to this process. If the URL only prefers TLS, it is tried there after a connection without it,
# because asking first costs a connection of its own each time.
_WITHOUT_TLS: set[tuple[str, int]] = set()
# The next host may serve: this one is away, does not speak TLS as we ask, starts up, or is not such a one as is wanted.
_NEXT_HOST = (
    OSError,
    TimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.TargetServerAttributeNotMatched,
)
# The other of "with TLS" and "without" may serve: the server refused TLS, a handshake failed, or pg_hba.conf decides.
_NEXT_TRY = (
    ssl.SSLError,
    ConnectionResetError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.InvalidAuthorizationSpecificationError,
)


class EncodingError(Exception):
    """The database is not encoded in UTF-8: texts of ours, and prompts, could not be stored in it."""

    def __init__(self, encoding: str) -> None:
        super().__init__(
            f"the database is encoded in {encoding}, and reactor needs {ENCODING}: use a database that was made with"
            f" ENCODING '{ENCODING}'"
        )


async def reach(target: Target, *, within: float, **given: Any) -> asyncpg.Connection[Any]:
    """Open a connection to one of the hosts.

    `within`: seconds for each host, unless the URL has a `connect_timeout`. `given`: more arguments of the driver.
    Raises UrlError, EncodingError, or the driver's error.
    """
    error: Exception | None = None
    for attributes in target.session_attributes:
        unlike = False
        for host in target.in_order():
            try:
                return await _opened(target, host, attributes, target.connect_within or within, given)
            except _NEXT_HOST as failure:
                unlike = unlike or isinstance(failure, asyncpg.TargetServerAttributeNotMatched)
                error = failure
        if not unlike:
            break
    raise error or OSError("no host")


async def _opened(
    target: Target, host: Host, attributes: str, within: float, given: Mapping[str, Any]
) -> asyncpg.Connection[Any]:
    arguments = {
        "host": host.name,
        "port": host.port,
        "user": target.user,
        "password": host.password or "",  # not None, because the driver would look for one: we have looked already
        "database": target.database,
        "target_session_attrs": attributes,
        "timeout": within,
        **target.gssapi,
        **given,
        "server_settings": {**target.settings, **given.get("server_settings", {})},
    }
    tries = [None] if host.has_socket else target.tls.tries()
    if (host.name, host.port) in _WITHOUT_TLS and None in tries:
        tries.sort(key=lambda context: context is not None)
    connection = await _by_tls(tries, target.tls, arguments)
    try:
        _check_encoding(connection)
    except EncodingError:
        connection.terminate()
        raise
    _keep_alive(connection, target.keepalive)
    return connection


async def _by_tls(
    tries: Sequence[ssl.SSLContext | None], tls: Tls, arguments: Mapping[str, Any]
) -> asyncpg.Connection[Any]:
    """Connect with the first context, or with the next if that is what the server wants; None: without TLS."""
    first, *others = tries
    try:
        return await _connect(first, tls, arguments)
    except (*_NEXT_TRY, ConnectionError) as error:
        # Only asyncpg raises a bare ConnectionError: the server has no TLS.
        without = type(error) is ConnectionError
        if not others or not (isinstance(error, _NEXT_TRY) or without):
            raise
        if without:
            _WITHOUT_TLS.add((arguments["host"], arguments["port"]))
        refused = error
    try:
        return await _connect(others[0], tls, arguments)
    except (asyncpg.InvalidAuthorizationSpecificationError, ConnectionError):
        if isinstance(refused, asyncpg.InvalidPasswordError):  # it says more than "no encryption" or "no TLS" does
            raise refused from None
        raise


async def _connect(context: ssl.SSLContext | None, tls: Tls, arguments: Mapping[str, Any]) -> asyncpg.Connection[Any]:
    connection: asyncpg.Connection[Any] = await asyncpg.connect(
        **arguments, ssl=context or False, direct_tls=tls.direct and context is not None
    )
    return connection


def _check_encoding(connection: asyncpg.Connection[Any]) -> None:
    """Raise EncodingError if the server reports another encoding than UTF-8; a pooler may not report any."""
    encoding = getattr(connection.get_settings(), "server_encoding", ENCODING)
    if encoding != ENCODING:
        raise EncodingError(encoding)


def _keep_alive(connection: asyncpg.Connection[Any], options: Mapping[str, int]) -> None:
    # asyncpg sets TCP_NODELAY only, and has no public way to its socket.
    transport = getattr(connection, "_transport", None)
    sock = transport.get_extra_info("socket") if transport is not None else None
    if not options or sock is None or sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    with suppress(OSError):  # a kernel that lacks an option keeps its default
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in options.items():
            if hasattr(socket, option):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
