"""The entry point of the command, also as `python -m reactor`.

The kernel delivers no signal to PID 1, as in a container, unless the process has a handler for it. So SIGTERM gets a
handler before the first slow import.
"""

import os
import signal
import sys

TERMINATED = 143  # the exit code that a shell reports for a program ended by SIGTERM: 128 + 15


def main() -> None:
    """Run the command that the command line names."""
    signal.signal(signal.SIGTERM, _end)

    from reactor.cli import main as run_command
    from reactor.cli.output import sanitise_crashes

    sanitise_crashes()
    run_command()


def _end(*_: object) -> None:
    """Exit as if there were no handler, but with 0 for `run`: a worker that has not begun has nothing to hand back."""
    os._exit(0 if sys.argv[1:2] == ["run"] else TERMINATED)


if __name__ == "__main__":
    main()
