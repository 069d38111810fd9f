"""`python -m fuzz [--seconds N] [--seed N]`, with this package's parent on the path."""

import argparse
import asyncio
import os
import random
import sys
import time
from contextlib import ExitStack, contextmanager

import hypothesis
from conftest import FAST
from databases import clone, on

from fuzz.cases import CASES
from fuzz.house import house
from reactor.embedded import EmbeddedPostgres
from reactor.migrations import revisions

AT_ONCE = 50  # cases of one seed


@contextmanager
def database():
    with ExitStack() as stack:
        server = os.environ.get("DATABASE_URL") or stack.enter_context(EmbeddedPostgres(settings=FAST)).url("postgres")
        url = on(server, asyncio.run(clone(server)))
        asyncio.run(revisions.upgrade(url))
        yield url


def run(playing, seed):
    """Play the cases of one seed. Raises AssertionError with the smallest case that is wrong."""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=AT_ONCE,
        deadline=None,
        derandomize=False,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(CASES)
    def every(case):
        assert playing.play(case) == []

    every()


def main():
    parser = argparse.ArgumentParser(prog="fuzz", description="Prompts, rows and answers that nobody would think of.")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))  # printed, to be given again
    given = parser.parse_args()
    with database() as url, house(url) as playing:
        began, seed = time.monotonic(), given.seed
        while time.monotonic() - began < given.seconds:
            print(f"seed {seed}: {AT_ONCE} cases", flush=True)
            run(playing, seed)
            seed += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
