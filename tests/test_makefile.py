import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path):
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(CHECKOUT / name, tmp_path)
    for name, code in {"old": 1, "broken": 127}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
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
    assert line == f"reactor needs Python 3.11, 3.12 or 3.13; {python} is none of them"
    assert makes_own.startswith("make")
    assert sorted(checkout.iterdir()) == before


def test_no_python_at_all_is_one_line(checkout):
    result = make(checkout, "check", "PYTHON=")

    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines()[0] == "reactor needs Python 3.11, 3.12 or 3.13 on PATH (or make PYTHON=…)"


def test_an_environment_that_is_there_stays_where_the_new_python_does_not_do(checkout):
    (checkout / ".venv").mkdir()

    make(checkout, "check", "PYTHON=nonsense")

    assert (checkout / ".venv").is_dir()
