"""Run the whole suite until it was green twenty times in a row, ten times of them beside two busy loops.

Each run is a line in a log outside the tree: when, which commit, quiet or busy, how it ended, how long it took. A run
that was stopped leaves no line, so `make steady` goes on after the last complete run. Runs of one commit count
together; a red run starts the count again. The tests run in a clone, so the tree may be changed meanwhile.
"""

import argparse
import contextlib
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parents[1]
LOG = Path.home() / ".cache" / "reactor" / "steady.log"
LOADS = {"quiet": 0, "busy": 2}  # busy loops beside the suite
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"  # ends with its parent, even a killed one


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the suite: a line of the log."""

    at: str
    commit: str
    load: str
    result: str
    seconds: int
    said: str

    @classmethod
    def read(cls, line):
        at, commit, load, result, seconds, said = line.split(maxsplit=5)
        return cls(at, commit, load, result, int(seconds), said)

    def __str__(self):
        return f"{self.at} {self.commit} {self.load:<5} {self.result:<5} {self.seconds} {self.said}"


def in_a_row(runs, commit):
    """The green runs of a commit since its last red one."""
    green = []
    for run in runs:
        if run.commit == commit:
            green = [*green, run] if run.result == "green" else []
    return green


def next_load(green, wanted):
    """`quiet` or `busy`, in turn, half of `wanted` each; None once there are enough runs."""
    missing = {load: wanted // 2 - sum(run.load == load for run in green) for load in LOADS}
    load = max(missing, key=missing.get)
    return load if missing[load] > 0 else None


@contextlib.contextmanager
def busy_loops(count):
    loops = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield loops
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def git(*arguments):
    return subprocess.run(["git", "-C", HERE, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def summary(output):
    """pytest's last line with counts, or else the last line."""
    lines = [line.strip(" =") for line in output.splitlines() if line.strip()]
    return next(
        (line for line in reversed(lines) if re.search(r"\d (passed|failed|error)", line)), (lines or ["nothing"])[-1]
    )


def run_suite(folder, commit, load, log):
    """Run the suite once in a clone. The output of a red run is kept beside the log."""
    output = log.parent / f"red-{commit}-{datetime.now(tz=UTC):%Y%m%dT%H%M%S}.txt"
    began = time.monotonic()
    with output.open("w") as file, busy_loops(LOADS[load]):
        code = subprocess.run(
            ["make", "plans", "test-kills", "test"], cwd=folder, stdout=file, stderr=file, check=False
        ).returncode
    seconds = round(time.monotonic() - began)
    said = summary(output.read_text(errors="replace"))
    if code == 0:
        output.unlink()
    return Run(f"{datetime.now(tz=UTC):%FT%TZ}", commit, load, "red" if code else "green", seconds, said)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20, help="green runs wanted in a row (20)")
    parser.add_argument("--log", type=Path, default=LOG, help=f"where runs are counted ({LOG})")
    given = parser.parse_args()
    if git("status", "--porcelain"):
        sys.exit("The tree has uncommitted changes; commit them, because the runs of one commit count together.")
    commit, log = git("rev-parse", "--short=12", "HEAD"), given.log
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch()

    def green():
        return in_a_row(map(Run.read, log.read_text().splitlines()), commit)

    with tempfile.TemporaryDirectory(prefix="reactor-steady-") as folder:
        subprocess.run(["git", "clone", "-q", HERE, folder], check=True)
        subprocess.run(["git", "-C", folder, "checkout", "-q", commit], check=True)
        subprocess.run(["make", "-s", ".venv/.ready"], cwd=folder, check=True)
        while (load := next_load(green(), given.runs)) is not None:
            run = run_suite(folder, commit, load, log)
            with log.open("a") as file:
                print(run, file=file)
            print(f"{len(green()):>2} of {given.runs}  {run}", flush=True)
            if run.result == "red":
                sys.exit(f"not steady; what it printed is in {log.parent}")
    print(f"steady: {len(green())} green runs in a row of {commit}")


if __name__ == "__main__":
    main()
