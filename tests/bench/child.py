"""The processes of the bench, from its own side: commands and answers are lines."""

import json
import subprocess
import sys
import tempfile
import time


class Child:
    """A process that runs a module of the bench. The block starts at its line `ready`, and its end ends the process."""

    def __init__(self, module, **config):
        self._command = [sys.executable, "-m", module, json.dumps(config)]

    def __enter__(self):
        self._said = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True, bufsize=1
        )
        self.heard()
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()

    @property
    def pid(self):
        return self._process.pid

    def heard(self):
        """Wait for the process's next line."""
        line = self._process.stdout.readline()
        if not line:
            self._said.seek(0)
            raise RuntimeError(f"{self._command[2]} ended: {self._said.read()[-2000:]}")
        return line.strip()

    def say(self, line):
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def ask(self, line):
        """Send a line; return the answer."""
        self.say(line)
        return self.heard()

    def starts(self):
        """The moment of each number's first start."""
        first = {}
        for number, moment in json.loads(self.ask("starts")):
            first.setdefault(number, moment)
        return first


def until(asked, every=0.001, within=300.0):
    """Ask until the answer is true; return the moment."""
    deadline = time.monotonic() + within
    while not asked():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(every)
    return time.monotonic()
