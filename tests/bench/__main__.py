"""`python -m bench`: measure and report. See --help."""

import argparse
from pathlib import Path

from bench import picture, report
from bench.bench import Bench
from bench.scenarios import burst, depth, drain, finish, fleet, history, idle, producer, quiet, reaction
from bench.server import serving

SCENARIOS = {
    "a": reaction,
    "b": drain,
    "c": burst,
    "d": producer,
    "e": depth,
    "f": fleet,
    "g": idle,
    "h": quiet,
    "i": finish,
    "j": history,
}
RESULTS = Path(__file__).parent / "results"


def arguments():
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    told = "; ".join(module.__doc__.splitlines()[0] for module in SCENARIOS.values())
    parser.add_argument("--only", default=",".join(SCENARIOS), metavar="a,b", help=told)
    parser.add_argument("--quick", action="store_true", help="one short repetition: to see that it runs")
    parser.add_argument("--repetitions", type=int, metavar="N", help="3; with --quick 1")
    parser.add_argument("--quiet", type=float, metavar="SECONDS", help="60; with --quick 5: without a mint, in h")
    parser.add_argument("--patience", type=float, default=20.0, metavar="SECONDS", help="to wait for a quiet machine")
    return parser.parse_args()


def main():
    given = arguments()
    chosen = [SCENARIOS[letter.strip()] for letter in given.only.split(",")]
    repetitions = given.repetitions or (1 if given.quick else 3)
    with serving() as server:
        patience, quiet_for = (0.0, 5.0) if given.quick else (given.patience, 60.0)
        bench = Bench(server, repetitions, given.quick, patience, given.quiet or quiet_for)
        try:
            for scenario in chosen:
                scenario.run(bench)
        finally:
            if bench.results:
                rows = report.medians(bench.results)
                print(f"\n{report.table(rows)}")
                report.write(RESULTS, bench.results, rows)
                picture.draw(RESULTS / "bench.svg", rows)


if __name__ == "__main__":
    main()
