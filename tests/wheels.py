"""The reactor as another commit has it: its wheel, unpacked, run by our Python."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
BEFORE = "9ab732b"  # the last commit whose workers expect another revision: 0009


def unpacked_wheel(folder, commit=None):
    """The folder with the files of a commit's wheel, or of this checkout's. Skips the test if there is no history."""
    source = CHECKOUT
    if commit is not None:
        git = shutil.which("git")
        command = [git, "-C", CHECKOUT, "archive", commit]
        archive = subprocess.run(command, capture_output=True, check=False) if git else None
        if archive is None or archive.returncode:
            pytest.skip(f"the history here has no commit {commit}, whose wheel runs in this test")
        source = folder / "source"
        with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
            tar.extractall(source, filter="data")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as wheel:
        wheel.extractall(folder / "unpacked")  # noqa: S202  (ours)
    return folder / "unpacked"


def environment(wheel, **given):
    """The environment in which Python finds this wheel before any other reactor."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "SSL_CERT_FILE"}}
    return kept | {"PYTHONPATH": str(wheel)} | given


def start(wheel, *arguments, **given):
    """Start a command of the wheel."""
    command = [sys.executable, "-P", "-m", "reactor", *arguments]
    return subprocess.Popen(
        command, env=environment(wheel, **given), cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def complete(wheel, *arguments, **given):
    """Run a command of the wheel to its end; return what it printed."""
    process = start(wheel, *arguments, **given)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, ""), (out, err)
    return out
