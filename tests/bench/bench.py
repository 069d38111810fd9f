"""What a scenario gets: the server, how long to measure, and a list for its results."""

import statistics
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.machine import DISTURBED, Guard, wait_for_quiet


@dataclass
class Bench:
    """`results` has a dict for each repetition: scenario, case, subject, foreign load, figures."""

    server: object
    repetitions: int
    quick: bool
    patience: float  # seconds to wait for a quiet machine, before each measurement
    quiet: float = 60.0  # seconds without a mint, for scenarios that measure an idle worker
    results: list = field(default_factory=list)

    def rounds(self, subjects):
        """Yield all subjects once for each repetition; each round begins with a different subject."""
        for repetition in range(self.repetitions):
            shift = repetition % len(subjects)
            yield from subjects[shift:] + subjects[:shift]

    @contextmanager
    def measuring(self, scenario, case, subject):
        """Record one measurement, whose figures the block fills in."""
        before, figures = wait_for_quiet(self.patience), {}
        guard = Guard()
        yield figures
        told = {"scenario": scenario, "case": case, "subject": subject, "figures": figures}
        told |= {"foreign": round(guard.foreign(), 3), "foreign_before": round(before, 3)}
        self.results.append(told)
        mark = " *" if told["foreign"] > DISTURBED else ""
        shown = ", ".join(f"{name} {value:,.2f}" for name, value in figures.items())
        print(f"  {scenario} {case:<12} {subject:<22} {shown}  [others {told['foreign']:.0%}]{mark}", flush=True)


def percentiles(seconds):
    """p50 and p99, in milliseconds."""
    ordered = sorted(seconds)
    return {
        "p50_ms": 1000 * statistics.median(ordered),
        "p99_ms": 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
    }
