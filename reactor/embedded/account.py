"""The user a server runs as. PostgreSQL refuses to run as root, and `initdb` needs a user that has a name.

root runs it in a user namespace, in which it is an ordinary user: no account is added, no owner changed. A user without
a name (a container's `--user 12345`) does the same. Where namespaces are refused, as by Docker's default, root takes
an account that exists. Either way the server has lost root's right to enter closed folders.
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

# Becomes the server, in place: what must happen between fork and exec, without the hazards of doing it in a fork of a
# process that has threads. ctypes, because os.unshare is newer than Python 3.11 and prctl is nowhere. The order is
# needed: a change of the uid clears the parent-death signal.
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
    """The server cannot be had; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user to run as: `how` is 'same' (as we are), 'namespace' or 'account'. The server sees itself as uid, gid."""

    how: str
    uid: int
    gid: int

    @property
    def owner(self) -> int:
        """The uid that its files have for everybody else."""
        return self.uid if self.how == "account" else os.getuid()

    def command(self, *command: str) -> list[str]:
        """Words that start `command` as this user, as a child that dies with us."""
        words = [str(os.getpid()), self.how, str(self.uid), str(self.gid)]
        return [sys.executable, "-I", "-S", "-c", _LAUNCH, *words, *command]

    def give(self, path: Path) -> None:
        """Make a file of ours this user's."""
        if self.how == "account":
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def enters(self, folder: Path) -> bool:
        """Whether this user can enter an existing folder, as far as the folders' modes say."""
        ways = [way.stat() for way in (folder, *folder.parents)] if self.how != "same" else []
        return all(way.st_mode & (0o100 if way.st_uid == self.owner else 0o001) for way in ways)


def account_for(postgres: Path) -> tuple[Account, bool]:
    """Choose the user, and say whether it can run the binary `postgres` where that lies."""
    if os.getuid() and _has_a_name(os.getuid()):
        return Account("same", os.getuid(), os.getgid()), True
    for account in _candidates():
        probe = subprocess.run(account.command(str(postgres), "--version"), capture_output=True, check=False)
        if probe.returncode != _REFUSED:
            return account, probe.returncode == 0
    why = f"needs a user with a name, and uid {os.getuid()} has none" if os.getuid() else "refuses to run as root"
    raise EmbeddedPostgresError(f"PostgreSQL {why}; run as an ordinary user")


def _has_a_name(uid: int) -> bool:
    with suppress(KeyError):
        return bool(pwd.getpwuid(uid))
    return False


def _candidates() -> Iterator[Account]:
    user = _ordinary_user()
    if user is None:
        return
    if sys.platform == "linux":
        yield Account("namespace", user.pw_uid, user.pw_gid)
    if os.getuid() == 0:
        yield Account("account", user.pw_uid, user.pw_gid)


def _ordinary_user() -> pwd.struct_passwd | None:
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    return next((user for user in pwd.getpwall() if user.pw_uid != 0), None)
