"""Run the tests of the database against servers of several major versions, one after the other.

A version that cannot be had here is named and skipped. Exits 1 if a test failed, or if no version could be had.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from conftest import FAST

from matrix.servers import Postgres, found

TESTS = Path(__file__).parents[1]
MAJORS = (14, 15, 16, 17, 18)
QUICK = ("test_migrations", "test_queries_claim", "test_triggers")
CORE = (
    *QUICK,
    "test_adoption",
    "test_queries",
    "test_queries_fences",
    "test_queries_rescue",
    "test_search_path",
    "test_strange_tables",
    "test_poolers",
    "test_upgrades",
    "test_traffic",
    "test_end_to_end",
)
# Files that look at every transaction of the server, so that no other test may run beside them.
ALONE = ("test_bell",)


def run(url, files, options, *, at_once=4):
    """Run pytest on the server; return its exit code."""
    paths = [str(TESTS / f"{name}.py") for name in files]
    command = [sys.executable, "-m", "pytest", "-n", str(at_once), "--no-loadscope-reorder", *options, *paths]
    return subprocess.run(command, env=os.environ | {"DATABASE_URL": url}, check=False).returncode


def main():
    parser = argparse.ArgumentParser(prog="make test-matrix ARGS=…", description=__doc__.partition("\n")[0])
    parser.add_argument("majors", nargs="*", type=int, help="major versions (14 15 16 17 18)")
    parser.add_argument("--quick", action="store_true", help="only migrations, triggers and claims")
    parser.add_argument("--cache", type=Path, required=True, help="folder for the servers")
    given, options = parser.parse_known_args()
    results = {}
    for major in given.majors or MAJORS:
        source, why = found(major, given.cache.resolve())
        if source is None:
            print(f"PostgreSQL {major}: SKIPPED, because {why}", flush=True)
            continue
        began = time.monotonic()
        print(f"PostgreSQL {major}: {source}", flush=True)
        with Postgres(source, settings=FAST) as server:
            results[major] = run(server.url("postgres"), QUICK if given.quick else CORE, options)
            if not given.quick:
                results[major] |= run(server.url("postgres"), ALONE, options, at_once=0)
        told = f"failed ({results[major]})" if results[major] else "passed"
        print(f"PostgreSQL {major}: {told} in {time.monotonic() - began:.0f} s", flush=True)
    sys.exit(not results or any(results.values()))


if __name__ == "__main__":
    main()
