"""Ports that tests listen at, and those at which this process listens."""

import os
import socket
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def kept():
    """A port at which nobody listens, and that the system gives to nobody else.

    A bound socket keeps it. Who listens beside it sets SO_REUSEADDR, as every server of ours does.
    """
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        yield keeper.getsockname()[1]


def listening():
    """The addresses of all sockets of this process that accept connections."""
    found = set()
    for entry in Path("/dev/fd").iterdir():
        try:
            number = os.dup(int(entry.name))
        except OSError:  # it was the descriptor of the listing itself
            continue
        try:
            sock = socket.socket(fileno=number)
        except OSError:  # no socket
            os.close(number)
            continue
        with sock:
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                found.add(sock.getsockname())
    return found
