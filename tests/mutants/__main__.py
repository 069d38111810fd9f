"""Take each guard out, one at a time, in a copy; see its test fail. Exits 1 if a test still passes.

Arguments: texts that the name of a guard must contain (none: every guard).
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mutants.guards import MUTANTS

HERE = Path(__file__).parents[2]
COPIED = (
    "reactor",
    "tests",
    "sql",
    "alembic",
    "deploy",
    "pyproject.toml",
    "README.md",
    "Makefile",
    "requirements.lock",
)
AT_ONCE = 2
WITHIN = 120  # seconds for one test; a test that hangs without the guard counts as failed
WITHIN_LARGE = 900  # seconds, of which most are spent to fill a large table
FAILED, NOTHING_RUN = 1, (2, 3, 4, 5)  # pytest's exit codes


def copy_to(folder):
    for name in COPIED:
        source = HERE / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)


def run(folder, *tests, within=WITHIN):
    """pytest's exit code, or None if it did not end in time."""
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *tests]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},  # for the programs that tests start
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return process.wait(within)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def tried(mutant):
    """The result for a mutant: killed, survived, or why it could not be tried."""
    with tempfile.TemporaryDirectory(prefix="reactor-mutant-") as name:
        folder = Path(name)
        copy_to(folder)
        path = folder / mutant.path
        text = path.read_text()
        if mutant.old not in text:
            return "not found: the guard was written differently"
        path.write_text(text.replace(mutant.old, mutant.new))
        code = run(folder, mutant.test, within=WITHIN_LARGE if "test_large" in mutant.test else WITHIN)
    if code in NOTHING_RUN:
        return f"no such test, or it cannot be run (pytest: {code})"
    return "killed" if code in {FAILED, None} else "SURVIVED"


def main():
    began = time.monotonic()
    mutants = [mutant for mutant in MUTANTS if all(part in mutant.name for part in sys.argv[1:])]
    if not mutants:
        sys.exit("no guard has all of these texts in its name")
    with tempfile.TemporaryDirectory(prefix="reactor-mutant-") as name:
        copy_to(Path(name))
        if run(Path(name), *sorted({mutant.test for mutant in mutants}), within=None) != 0:
            sys.exit("the tests fail with every guard in place")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        fates = []
        for mutant, fate in zip(mutants, pool.map(tried, mutants), strict=True):
            print(f"{fate:<9} {mutant.name}", flush=True)
            fates.append(fate)
    killed = fates.count("killed")
    print(f"{killed} of {len(mutants)} killed in {time.monotonic() - began:.0f} s")
    sys.exit(killed < len(mutants))


if __name__ == "__main__":
    main()
