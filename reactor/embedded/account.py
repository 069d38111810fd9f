"""The user that a server runs as. PostgreSQL refuses to run as root, and `initdb` needs a user that has a name.

As root, the server runs in a user namespace, in which it is an ordinary user: no account is added, and no file changes
its owner. The same is done for a user without a name (a container's `--user 12345`). If namespaces are refused, as
Docker does by default, root uses an account that exists. In both cases the server may not enter folders that are closed
to it, though root may.
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

# This program changes the user and then becomes the server. It is a program of its own, because code between fork and
# exec is not safe in a process with threads. It uses ctypes, because os.unshare is newer than Python 3.11 and no module
# has prctl. It changes the uid before it asks for the parent-death signal, because a new uid clears that signal.
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
    """The server cannot run. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user to run as. `how`: 'same' (ours), 'namespace' or 'account'. The server's own ids are `uid` and `gid`."""

    how: str
    uid: int
    gid: int

    @property
    def owner(self) -> int:
        """The uid that its files have outside a namespace."""
        return self.uid if self.how == "account" else os.getuid()

    def command(self, *command: str) -> list[str]:
        """The command line that runs `command` as this user, in a child that dies when we die."""
        words = [os.getpid(), self.how, self.uid, self.gid]
        return [sys.executable, "-I", "-S", "-c", _LAUNCH, *map(str, words), *command]

    def give(self, path: Path) -> None:
        """Make this user the owner of a file of ours."""
        if self.how == "account":
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def enters(self, folder: Path) -> bool:
        """Whether this user can enter an existing folder, judged by its mode and the modes of the folders above it."""
        ways = [way.stat() for way in (folder, *folder.parents)] if self.how != "same" else []
        return all(way.st_mode & (0o100 if way.st_uid == self.owner else 0o001) for way in ways)


def account_for(postgres: Path) -> tuple[Account, bool]:
    """Choose the user. Return it, and whether it can run the binary `postgres` where that is now."""
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
