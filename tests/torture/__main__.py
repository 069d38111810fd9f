"""`python -m torture [--profile full] [--seed N]`, with this package's parent on the path."""

import argparse
import random
import sys

import anyio

from torture.profiles import PROFILES
from torture.report import evidence, figures
from torture.run import stage, torture


def main():
    parser = argparse.ArgumentParser(prog="torture", description="Kill, stop, restart and cut; then audit.")
    parser.add_argument("--profile", choices=PROFILES, default="full")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args()

    def tell(line):
        print(line, flush=True)  # noqa: T201

    profile = PROFILES[given.profile]
    tell(f"seed {given.seed}: {profile.tokens:,} tokens in {profile.duration:.0f} s, {profile.workers} workers")
    with stage(given.profile, given.seed) as house:
        result = anyio.run(lambda: torture(house, given.profile, given.seed, tell=tell))
    for line in [*evidence(result), *figures(result)]:
        tell(line)
    if not result.well:
        tell(f"again: make torture ARGS='--profile {given.profile} --seed {given.seed}'")
    return 0 if result.well else 1


if __name__ == "__main__":
    sys.exit(main())
