"""Where the command begins, also as `python -m reactor`.

As PID 1, in a container, a process never gets a signal that it has no handler for, so SIGTERM has one before the first
import that takes time.
"""

import os
import signal
import sys

TERMINATED = 143  # what a shell tells of a program that SIGTERM ended: 128 + 15


def main() -> None:
    """Run the command that the command line names."""
    signal.signal(signal.SIGTERM, _end)

    from reactor.cli import main as run_command
    from reactor.cli.output import be_fit_in_crashes

    be_fit_in_crashes()
    run_command()


def _end(*_: object) -> None:
    """End as without a handler; but a worker that has not begun yet was stopped in good order."""
    os._exit(0 if sys.argv[1:2] == ["run"] else TERMINATED)


if __name__ == "__main__":
    main()
