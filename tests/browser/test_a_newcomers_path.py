"""The path of a newcomer who reads nothing but the screen: the demo on a terminal, its page, and the commands it shows.

The commands are run as they are printed.
"""

import fcntl
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import pytest
from doubles import until
from playwright.async_api import expect

from browser.conftest import shot
from reactor.embedded import processes

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

REACTOR = Path(sys.executable).with_name("reactor")
SIZE = 30, 110  # lines and columns
# Makes the terminal the controlling one, so that Ctrl-C is a signal, and then becomes the program.
ON_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
HOME = "\x1b[H"  # begins each frame
CONTROL = re.compile(r"\x1b\]8;.*?\x1b\\|\x1b\[[0-9;?]*[A-Za-z]")
CTRL_C = b"\x03"
DRAWN = "image => image.complete && image.naturalWidth > 0"


class Terminal:
    """A program's screen. It is read at once, because a program whose terminal is full waits."""

    def __init__(self, process, master):
        self.process = process
        self._master = master
        self._told = bytearray()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        with suppress(OSError):  # the program has ended
            while told := os.read(self._master, 65536):
                self._told += told

    def screen(self):
        """The text of the last whole frame."""
        frames = self._told.decode(errors="replace").split(HOME)
        return CONTROL.sub("", frames[-2] if len(frames) > 1 else "")

    async def find(self, pattern):
        """The first group of the pattern, or all of the match, as soon as it is on the screen."""
        found = None

        async def shown():
            nonlocal found
            found = re.search(pattern, self.screen())
            return found

        await until(shown, seconds=30)
        return found[found.re.groups]

    async def command(self, name):
        """The command that the screen shows under this name."""
        return (await self.find(rf"{name}: +(.*?) *│")).strip()

    async def press(self, keys):
        await anyio.to_thread.run_sync(os.write, self._master, keys)

    async def end(self):
        """Wait for the end of the program. Return the exit code, and all that it wrote after the last whole frame."""

        async def over():
            return self.process.poll() is not None

        await until(over, seconds=30)
        self.close()
        return self.process.returncode, CONTROL.sub("", self._told.decode().rpartition(HOME)[2])

    def close(self):
        self.process.kill()
        self.process.wait()
        self._reader.join()


@contextmanager
def demo(folder):
    """`reactor demo` on a terminal; killed if it still runs at the end."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *SIZE, 0, 0))
    left = {"DATABASE_URL", "LISTEN_DATABASE_URL", "COLUMNS", "LINES", "NO_COLOR"}
    process = subprocess.Popen(
        [sys.executable, "-c", ON_TERMINAL, REACTOR, "demo"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in left} | {"TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(slave)
    terminal = Terminal(process, master)
    try:
        yield terminal
    finally:
        terminal.close()
        os.close(master)


async def run(*commands):
    """Run the commands in a shell that a user has, one after the other; what they print."""
    kept = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    done = await anyio.run_process(["sh", "-ec", "\n".join(commands)], env=kept)
    return done.stdout.decode()


def database_of(process):
    """The folder and the process of the demo's PostgreSQL."""
    (folder,) = Path(tempfile.gettempdir()).glob(f"reactor-pg-{process.pid}-*")
    return folder, int((folder / "data" / "postmaster.pid").read_text().split("\n")[0])


def is_open(url):
    with socket.socket() as sock:
        return sock.connect_ex((urlsplit(url).hostname, urlsplit(url).port)) == 0


async def break_and_see(page, terminal):
    """Break the provider; see on both screens why the gate closes and what to do. Return the tokens that failed."""
    said = await run(await terminal.command("break the provider"))
    assert f"To heal it: {await terminal.command('heal it')}\n" in said
    await expect(page.locator("#sentence")).to_contain_text(
        "The gate is closed: Replicate answered 402: Insufficient credit: You have insufficient credit"
    )
    await expect(page.locator(".todo")).to_contain_text("Correct that if you can. The fleet tries one token")
    await expect(page.locator(".todo")).to_contain_text("opens the gate by itself; reactor resume opens it now.")
    await expect(page.locator("#gate")).to_contain_text("to purchase credit")
    await expect(page.get_by_role("button", name="Resume")).to_be_visible()
    await expect(page.locator(".card.failed")).to_have_count(3)
    for why in await page.locator(".card.failed .why").all():
        await expect(why).to_contain_text("Replicate answered 422: Input validation failed")
    await shot(page, "newcomer-closed")
    await terminal.find("The gate is closed: Replicate answered 402: Insufficient credit")
    await terminal.find("Heal the provider if it is broken, and wait")
    return [await number.inner_text() for number in await page.locator(".card.failed .no").all()]


async def heal_and_see(page, terminal):
    """Heal the provider, and see that the gate opens by itself and what is left to do."""
    assert "A closed gate opens by itself within a minute" in await run(await terminal.command("heal it"))
    await expect(page.locator("#gate")).to_contain_text("Open", timeout=60_000)
    await expect(page.locator("#sentence")).to_contain_text("3 tokens have failed; all else is well.")
    await terminal.find("3 tokens have failed: Replicate answered 422")
    await terminal.find("Heal the provider, then retry them: on the page, or as shown above")


async def retry_on_the_page(page, _terminal):
    await page.get_by_role("link", name="Retry the failed tokens").click()
    await expect(page.get_by_role("heading", name="Retry 3 failed tokens?")).to_be_visible()
    await page.get_by_role("button", name="Retry them").click()
    await expect(page.locator("#flash")).to_contain_text("3 tokens set back to be made again.")


async def retry_by_command(page, terminal):
    settings = await terminal.command("retry what failed")
    retry = await terminal.find(r"│ +(\S*reactor retry --failed) *│")
    assert "3 set back to detected" in await run(settings, retry)
    await expect(page.locator("#tab-failed b")).to_have_text("0")


@pytest.mark.parametrize("retry", [retry_on_the_page, retry_by_command])
async def test_a_newcomer_breaks_heals_and_retries_by_what_the_screen_says(open_page, tmp_path, retry):
    with demo(tmp_path) as terminal:
        link = await terminal.find(r"watch and steer: +(http://127\.0\.0\.1:\d+/)")
        await terminal.find("Open the link. Then, in another terminal, break the provider.")
        sandbox = (await terminal.command("heal it")).split()[-1]
        folder, server = database_of(terminal.process)
        page = await open_page(link)
        await expect(page.locator(".card.picture").first).to_be_visible()
        await page.wait_for_function(f"() => [...document.querySelectorAll('.card.picture img')].some({DRAWN})")

        tokens = await break_and_see(page, terminal)
        await heal_and_see(page, terminal)
        await retry(page, terminal)

        await terminal.find("All is well.")
        for token in tokens:
            await page.goto(f"{link}tokens/{token}")
            await expect(page.locator("figure.card")).to_have_class("card picture")
            await page.wait_for_function(f"() => ({DRAWN})(document.querySelector('figure.card img'))")
        await run(await terminal.command("break the provider"))
        await terminal.find(r"failed +[1-9]")  # even so Ctrl-C is no error
        await open_page.close_all()
        await terminal.press(CTRL_C)
        code, words = await terminal.end()

    assert code == 0, words
    assert "the demo was cut short" in words
    assert not folder.exists()
    assert not processes.runs(server)
    assert not is_open(link)
    assert not is_open(sandbox)
