"""A worker's side of the measuring: it notes when a handler starts, and tells when it is asked.

Moments are CLOCK_MONOTONIC's, which all processes of a machine share. The first line on stdout is `ready`; what is
asked stands on stdin, one command a line, and the end of stdin is the end of the process.
"""

import json
import os
import sys
import threading
import time


class Marks:
    """What was started, and when."""

    def __init__(self):
        self._starts = []
        self._expected = 0
        # Whatever the engine prints is none of the bench's talk; it costs what it costs in a log file.
        self._talk = os.fdopen(os.dup(1), "w", buffering=1)
        log = os.open(os.devnull, os.O_WRONLY)
        os.dup2(log, 1)

    def start(self, number):
        """Note that the handler of this mint starts now."""
        starts = self._starts
        starts.append((number, time.monotonic()))
        if len(starts) == self._expected:
            self._tell("reached")

    def ready(self):
        """Say that a mint would wake us from now on, and obey."""
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
