"""A worker's side of the bench: it records when handlers start, and reports that on request.

Moments are CLOCK_MONOTONIC's, which all processes of a machine share. The first line on stdout is `ready`. Commands
come on stdin, one a line; the end of stdin ends the process.
"""

import json
import os
import sys
import threading
import time


class Marks:
    """The handlers that started, and when."""

    def __init__(self):
        self._starts = []
        self._expected = 0
        # Keep the engine's own output apart from the bench's lines. Writing to /dev/null costs as much as to a log.
        self._talk = os.fdopen(os.dup(1), "w", buffering=1)
        log = os.open(os.devnull, os.O_WRONLY)
        os.dup2(log, 1)

    def start(self, number):
        """Record that the handler of this mint starts now."""
        starts = self._starts
        starts.append((number, time.monotonic()))
        if len(starts) == self._expected:
            self._tell("reached")

    def ready(self):
        """Report that mints wake us from now on, and answer commands."""
        threading.Thread(target=self._obey, daemon=True).start()
        self._tell("ready")

    def _obey(self):
        for line in sys.stdin:
            command, _, argument = line.strip().partition(" ")
            if command == "expect":
                self._starts, self._expected = [], int(argument)
                self._tell("expecting")
            elif command == "starts":
                self._tell(json.dumps(self._starts))
        os._exit(0)

    def _tell(self, line):
        print(line, file=self._talk, flush=True)
