"""The user that a server runs as. PostgreSQL refuses to run as root, and `initdb` needs a user that has a name.

root runs the server in a user namespace, in which it is an ordinary user, so no account is added and no owner changed.
A user without a name (a container's `--user 12345`) does the same. If namespaces are refused, as in Docker by default,
root takes an account that exists. In both cases the server loses root's right to enter closed folders.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_REFUSED = 77  # the launcher's exit status if it could not become the account

# This program becomes the server. It does what must happen between fork and exec, which is not safe in a fork of a
# process with threads. ctypes is there because os.unshare is newer than Python 3.11, and no module has prctl. The uid
# changes first, because that clears the parent-death signal.
_LAUNCH = f"""
import ctypes, os, sys
owner, how, uid, gid, *command = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
try:
    if how == 'namespace':
        maps = f'{{uid}} {{os.geteuid()}} 1', f'{{gid}} {{os.getegid()}} 1'
        if libc.unshare(0x10000000):
            raise OSError('user namespaces are refused')
        for name, text in zip(('setgroups', 'uid_map', 'gid_map'), ('deny', *maps)):
            with open('/proc/self/' + name, 'w') as file:
                file.write(text)
    elif how == 'account':
        os.setgroups([]); os.setgid(int(gid)); os.setuid(int(uid))
except OSError:
    sys.exit({_REFUSED})
if sys.platform == 'linux':
    libc.prctl(1, 2)
    if os.getppid() != int(owner):
        sys.exit('the owner is gone')
try:
    os.execv(command[0], command)
except OSError as error:
    sys.exit(f'{{command[0]}}: {{error.strerror}}')
"""


class EmbeddedPostgresError(Exception):
    """There is no server. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user to run as: `how` is 'same' (ours), 'namespace' or 'account'. The server sees itself as `uid` and `gid`."""

    how: str
    uid: int
    gid: int

    @property
    def owner(self) -> int:
        """The uid of its files for other processes."""
        return self.uid if self.how == "account" else os.getuid()

    def command(self, *command: str) -> list[str]:
        """The words that start `command` as this user, as a child that dies with us."""
        words = [os.getpid(), self.how, self.uid, self.gid]
        return [sys.executable, "-I", "-S", "-c", _LAUNCH, *map(str, words), *command]

    def give(self, path: Path) -> None:
        """Make this user the owner of our file."""
        if self.how == "account":
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def enters(self, folder: Path) -> bool:
        """Whether this user can enter an existing folder, by the modes of the folders above it."""
        ways = [way.stat() for way in (folder, *folder.parents)] if self.how != "same" else []
        return all(way.st_mode & (0o100 if way.st_uid == self.owner else 0o001) for way in ways)


def account_for(postgres: Path) -> tuple[Account, bool]:
    """Choose the user, and tell whether it can run the binary `postgres` in its place."""
    with suppress(KeyError):
        if os.getuid() and pwd.getpwuid(os.getuid()):
            return Account("same", os.getuid(), os.getgid()), True
    for account in _candidates():
        probe = subprocess.run(account.command(str(postgres), "--version"), capture_output=True, check=False)
        if probe.returncode != _REFUSED:
            return account, probe.returncode == 0
    why = f"needs a user with a name, and uid {os.getuid()} has none" if os.getuid() else "refuses to run as root"
    raise EmbeddedPostgresError(f"PostgreSQL {why}; run as an ordinary user")


def _candidates() -> Iterator[Account]:
    user = _ordinary_user()
    if user and sys.platform == "linux":
        yield Account("namespace", user.pw_uid, user.pw_gid)
    if user and os.getuid() == 0:
        yield Account("account", user.pw_uid, user.pw_gid)


def _ordinary_user() -> pwd.struct_passwd | None:
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    return next((user for user in pwd.getpwall() if user.pw_uid != 0), None)
