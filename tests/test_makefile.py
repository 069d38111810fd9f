import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
NEEDED = "reactor needs Python 3.11 or newer, with venv (Debian, Ubuntu: apt install python3-venv)"
FAKE = """#!/bin/sh
test "$1" = -c && exit 0
echo "$@"
exit 3
"""


@pytest.fixture
def checkout(tmp_path):
    tmp_path = tmp_path / "with a space"
    tmp_path.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(CHECKOUT / name, tmp_path)
    for name, code in {"old": 1, "broken": 127}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "fit one").write_text(FAKE)
    (tmp_path / "fit one").chmod(0o755)
    return tmp_path


def make(checkout, *arguments):
    # A make around the tests would hand its own flags on.
    environment = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    return subprocess.run(
        ["make", *arguments], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("python", ["nonsense", "./old", "./broken"])
def test_a_python_that_does_not_do_is_one_line_and_nothing_is_made(checkout, python):
    before = sorted(checkout.iterdir())

    result = make(checkout, "check", f"PYTHON={python}")

    assert (result.returncode, result.stdout) == (2, "")
    line, makes_own = result.stderr.splitlines()
    assert line == f"{NEEDED}; {python} is not that"
    assert makes_own.startswith("make")
    assert sorted(checkout.iterdir()) == before


def test_no_python_at_all_is_one_line(checkout):
    result = make(checkout, "check", "PYTHON=")

    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines()[0] == f"{NEEDED} on PATH (or make PYTHON=…)"


def test_an_environment_that_is_there_stays_where_the_new_python_does_not_do(checkout):
    (checkout / ".venv").mkdir()

    make(checkout, "check", "PYTHON=nonsense")

    assert (checkout / ".venv").is_dir()


@pytest.mark.parametrize(("version", "fit"), [((3, 10), False), ((3, 11), True), ((3, 14), True), ((3, 15), True)])
def test_any_python_from_3_11_on_is_tried(version, fit):
    (check,) = re.findall(r"^RUNS +:= (.*)$", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)

    ended = subprocess.run([sys.executable, "-c", f"import sys; sys.version_info = {version}; {check}"], check=False)

    assert (ended.returncode == 0) is fit


def test_the_environment_is_made_where_it_is_wanted_by_a_python_whose_path_has_a_space(checkout, tmp_path):
    result = make(checkout, "check", "PYTHON=./fit one", f"VENV={tmp_path}/else/where")

    assert result.stdout.splitlines()[-1] == f"-m venv {tmp_path}/else/where"
    assert not (checkout / ".venv").exists()


def test_a_checkout_that_cannot_be_written_says_how_to_go_on(checkout):
    result = make(checkout, "check", "PYTHON=./fit one", "VENV=/proc/no/such/folder")

    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines()[0] == (
        "/proc/no/such/folder cannot be written; make the environment elsewhere: make … VENV=/somewhere"
    )


def test_an_environment_whose_path_has_a_space_is_refused(checkout):
    result = make(checkout, "check", "VENV=./an other")

    assert result.returncode == 2
    assert 'VENV is a path without spaces, not "./an other"' in result.stderr


def test_uv_is_pinned_with_its_hashes(checkout):
    (extract,) = re.findall(r"@(awk .*) > ", (CHECKOUT / "Makefile").read_text())

    pinned = subprocess.run(["sh", "-c", extract], cwd=checkout, capture_output=True, text=True, check=True).stdout

    assert re.match(r"uv==[0-9.]+ \\\n( +--hash=sha256:[0-9a-f]{64}( \\)?\n)+", pinned)
    assert "==" not in pinned.partition("==")[2]
