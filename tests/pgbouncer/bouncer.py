"""A real PgBouncer before a server, as long as the block lasts."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from reactor.database.connections import SERVER_SETTINGS
from reactor.embedded.account import Account

WITHIN = 10.0  # seconds until it answers
# What a pooler of a hosting company does: it takes every startup parameter, and does nothing with it.
EVERY_PARAMETER = ", ".join([*SERVER_SETTINGS, "statement_timeout", "lock_timeout", "extra_float_digits"])


def program():
    """The path of PgBouncer; None if it is not installed."""
    return shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


def account():
    """PgBouncer refuses to run as root."""
    if os.getuid():
        return Account("same", os.getuid(), os.getgid())
    nobody = pwd.getpwnam("nobody")
    return Account("account", nobody.pw_uid, nobody.pw_gid)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def knows_prepared_statements(path):
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    return tuple(map(int, version.split(".")[:2])) >= (1, 21)


@contextmanager
def bouncer(url, *, roles=(), **settings):
    """The URL of a PgBouncer in transaction mode before the server. `settings` are lines of its configuration.

    Few server connections serve in turn, so that a client's next transaction is on another one.
    """
    path, parts, port, runs_as = program(), urlsplit(url), free_port(), account()
    given = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "trust",
        "pool_mode": "transaction",
        "default_pool_size": 6,
        "server_round_robin": 1,
        "max_client_conn": 500,
        "so_reuseport": 0,
    } | settings
    if knows_prepared_statements(path):
        given["max_prepared_statements"] = 0
    folder = Path(tempfile.mkdtemp(prefix="reactor-pgbouncer-"))
    try:
        folder.chmod(0o755)
        users = folder / "users.txt"
        users.write_text("".join(f'"{role}" "x"\n' for role in (parts.username, *roles)))
        lines = [f"{name} = {value}" for name, value in {**given, "auth_file": users}.items()]
        databases = f"[databases]\n* = host={parts.hostname} port={parts.port}\n"
        (folder / "pgbouncer.ini").write_text("\n".join([databases, "[pgbouncer]", *lines, ""]))
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                runs_as.command(path, str(folder / "pgbouncer.ini")), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            wait_for(process, port, folder / "log")
            yield urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}"))
        finally:
            process.terminate()
            process.wait(10)
    finally:
        shutil.rmtree(folder)


def wait_for(process, port, log):
    deadline = time.monotonic() + WITHIN
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.01)
        else:
            return
