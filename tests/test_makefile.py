import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
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


def make(checkout, *arguments, **given):
    # A make that runs the tests would hand its flags on to these.
    environment = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}} | given
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


# A stand-in for Python: its "environments" run the tests' Python, with the environment's folder first on the path.
OWN_FOLDER = f"""#!/bin/sh
test "$1" = -c && exit 0
mkdir -p "$3/bin" "$3/site"
cat > "$3/bin/python" <<END
#!/bin/sh
PYTHONPATH="$3/site" exec "{sys.executable}" -P "\\$@"
END
chmod +x "$3/bin/python"
"""
UV = "import pathlib, sys; pathlib.Path('uv was run').open('a').write(' '.join(sys.argv[1:]) + chr(10))"


def wheel_of_uv(folder):
    """Make a wheel that pip takes for uv, and that records how it is run; return its SHA-256."""
    folder.mkdir()
    path = folder / "uv-1.0-py3-none-any.whl"
    info = {
        "METADATA": "Metadata-Version: 2.1\nName: uv\nVersion: 1.0\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("uv/__init__.py", "")
        wheel.writestr("uv/__main__.py", UV)
        for name, text in info.items():
            wheel.writestr(f"uv-1.0.dist-info/{name}", text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def making(checkout, tmp_path):
    """Make an environment elsewhere, with uv pinned by a hash; return make's result, the runs of uv, and the folder."""

    def making(hash_of):
        true_hash = wheel_of_uv(tmp_path / "wheels")
        (checkout / "requirements.lock").write_text(f"uv==1.0 \\\n    --hash=sha256:{hash_of(true_hash)}\n")
        (checkout / "own folder").write_text(OWN_FOLDER)
        (checkout / "own folder").chmod(0o755)
        venv = tmp_path / "elsewhere"
        (tmp_path / "pip.conf").write_text(
            f"[global]\nno-index = true\nfind-links = {tmp_path}/wheels\n[install]\ntarget = {venv}/site\n"
        )
        pip = {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "PIP_NO_CACHE_DIR": "1"}
        result = make(checkout, f"{venv}/.ready", f"VENV={venv}", "PYTHON=./own folder", **pip)
        log = checkout / "uv was run"
        return result, log.read_text().splitlines() if log.exists() else [], venv

    return making


@pytest.mark.timeout(300)  # makes an environment with pip
def test_an_environment_is_made_by_a_uv_of_the_right_hash(making):
    result, runs, venv = making(lambda true: true)

    assert result.returncode == 0, result.stderr
    assert [run.split()[:2] for run in runs] == [["cache", "dir"], ["pip", "install"]] * 2
    assert "--require-hashes -r requirements.lock" in runs[1]
    assert runs[3].endswith("--no-deps --no-build-isolation -e .")
    assert (venv / ".ready").exists()


@pytest.mark.timeout(300)  # makes an environment with pip
def test_a_uv_of_another_hash_is_not_installed_and_not_run(making):
    result, runs, venv = making(lambda true: "0" * len(true))

    assert result.returncode == 2
    assert "hash" in result.stderr.lower()
    assert runs == []
    assert not (venv / "site" / "uv").exists()
    assert not (venv / ".ready").exists()


def test_whatever_the_makefile_installs_has_a_hash():
    """The checkout itself is the exception, because its dependencies are not installed with it."""
    installing = re.findall(r"^\t.*(?:\$\(UV\)|-m pip install) (.*)", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)

    assert len(installing) == 8
    for arguments in installing:
        assert "--require-hashes" in arguments or "--no-deps --no-build-isolation -e ." in arguments, arguments
    locks = [f"tests/{each}/requirements.lock" for each in ("bench", "browser", "manifests", "openapi")]
    for name in ("requirements.lock", *locks):
        pins = re.split(r"\n(?=\S)", (CHECKOUT / name).read_text().strip())
        assert all("--hash=sha256:" in pin for pin in pins if not pin.startswith("#"))
