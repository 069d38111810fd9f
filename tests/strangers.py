"""Roles of other programs in the same database, with as few rights as a test gives them."""

import uuid
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg

PASSWORD = "strange"


@asynccontextmanager
async def stranger(url, *grants):
    """The URL of a role that may connect. `grants`: statements, with {role} for its name, that give it more rights."""
    role = f"stranger_{uuid.uuid4().hex[:12]}"
    owner = await asyncpg.connect(url)
    try:
        await owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        try:
            for grant in grants:
                await owner.execute(grant.format(role=role))
            yield as_role(url, role)
        finally:
            for how in ("pid", "pid, 5000"):  # all end at once, and only then is each waited for
                await owner.execute(
                    f"SELECT pg_terminate_backend({how}) FROM pg_stat_activity WHERE usename = '{role}'"
                )
            await owner.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")
    finally:
        await owner.close()


def as_role(url, role):
    """`url` with the name and password of a stranger's role."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{role}:{PASSWORD}@{host}"))
