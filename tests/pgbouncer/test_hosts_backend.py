"""Another project's database and backend, at home with a reactor: as a restricted role, behind PgBouncer.

Its SQLModel classes make an enum with upper-case labels, uuid keys without defaults, times without a zone and no
mint_timestamp; its migrations have a version table of their own. Nothing but the environment is set.
"""

import json
from datetime import UTC, datetime
from enum import Enum
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg
import pytest
import wheels
from anyio import to_thread
from catalogue import snapshot
from conftest import FAST
from doubles import until
from matrix.servers import SERVERS, Postgres, found
from roles import KINDS, run_script
from sqlalchemy import DateTime
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import Field, SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession
from test_end_to_end import TOKEN, Lines

from pgbouncer.bouncer import EVERY_PARAMETER, bouncer, program

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(180),
    pytest.mark.skipif(program() is None, reason="PgBouncer is not installed"),
]

APP = """
    CREATE ROLE app LOGIN PASSWORD 'x';
    ALTER DATABASE postgres OWNER TO app; GRANT ALL ON SCHEMA public TO app
"""
NAMES = {kind: f"reactor_{kind}" for kind in KINDS}  # the roles of sql/roles.sql
PASSWORDS = "; ".join(f"ALTER ROLE {name} PASSWORD 'x'" for name in NAMES.values())


class TokenStatus(Enum):
    DETECTED = "detected"
    GENERATING = "generating"
    UPLOADING = "uploading"
    READY = "ready"
    REVEALED = "revealed"
    FAILED = "failed"


def now():
    return datetime.now(tz=UTC).replace(tzinfo=None)


class Author(SQLModel, table=True):
    __tablename__ = "authors"
    author_id: UUID = Field(default_factory=uuid4, primary_key=True)
    wallet_address: str = Field(unique=True)
    prompt_text: str | None = None


class TokenS0(SQLModel, table=True):
    __tablename__ = "tokens_s0"
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    token_id: int = Field(unique=True)
    author_id: UUID = Field(foreign_key="authors.author_id")
    status: TokenStatus = Field(default=TokenStatus.DETECTED, index=True)
    detected_at: datetime = Field(default_factory=now, sa_type=DateTime)
    image_url: str | None = None
    generation_attempts: int = 0
    generation_error: str | None = None


def as_role(url, role):
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{role}:x@{parts.hostname}:{parts.port}"))


async def execute(url, statements):
    connection = await asyncpg.connect(url)
    await connection.execute(statements)
    await connection.close()


@pytest.fixture(scope="module", params=[14, 18])
def server(request):
    source, why = found(request.param, SERVERS)
    if source is None:
        pytest.skip(f"PostgreSQL {request.param}: {why}")
    with Postgres(source, settings=FAST) as server:
        yield server.url("postgres")


@pytest.fixture
def sandbox():
    config = {"token": TOKEN, "timing": {"queue": [0, 0.05], "run": [0, 0.05]}}
    process = wheels.start(wheels.CHECKOUT, "sandbox", "--port", "0", "--config", json.dumps(config))
    yield process.stdout.readline().strip()
    process.terminate()
    process.communicate(timeout=10)


@pytest.fixture
async def backend(server):
    """The backend's engine, behind a PgBouncer that ignores what it does not know; and that PgBouncer's URL."""
    await execute(server, APP)
    with bouncer(
        server, roles=("app", "reactor_migrator", "reactor_worker"), ignore_startup_parameters=EVERY_PARAMETER
    ) as pooled:
        url = as_role(pooled, "app").replace("postgresql:", "postgresql+asyncpg:")
        pooler_safe = {
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": str,
        }
        engine = create_async_engine(url, connect_args=pooler_safe)
        async with engine.begin() as connection:
            await connection.run_sync(SQLModel.metadata.create_all)
            await connection.exec_driver_sql("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
            await connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('b7e3')")
        yield engine, pooled
        await engine.dispose()
    await execute(server, "DROP TABLE tokens_s0, authors, alembic_version; DROP TYPE tokenstatus")


async def test_another_projects_backend_gets_images_and_its_database_back_as_it_was(server, backend, sandbox):
    engine, pooled = backend
    urls = {
        "DATABASE_URL": as_role(pooled, "reactor_migrator"),
        "LISTEN_DATABASE_URL": as_role(server, "reactor_migrator"),
    }
    # An owner's rights are only written down once somebody else was granted some.
    await execute(
        server, "GRANT SELECT ON tokens_s0, authors TO pg_monitor; REVOKE ALL ON tokens_s0, authors FROM pg_monitor"
    )
    before = await snapshot(server)

    await to_thread.run_sync(run_script, server, NAMES)
    await execute(server, PASSWORDS)
    await to_thread.run_sync(lambda: wheels.complete(wheels.CHECKOUT, "migrate", **urls))
    await to_thread.run_sync(run_script, server, NAMES)
    worker = wheels.start(
        wheels.CHECKOUT,
        "run",
        DATABASE_URL=as_role(pooled, "reactor_worker"),
        LISTEN_DATABASE_URL=as_role(server, "reactor_worker"),
        REPLICATE_API_TOKEN=TOKEN,
        REPLICATE_BASE_URL=sandbox,
        FALLBACK_CENSORED_PROMPT="a calm sea",
        POLL_INTERVAL_SECONDS="60",
        HTTP_PORT="0",
    )
    try:
        lines = Lines(worker)
        await to_thread.run_sync(lines.until, "listener.connected")
        async with AsyncSession(engine, expire_on_commit=False) as session:
            author = Author(wallet_address="0xada", prompt_text="a red kite")
            session.add(author)
            await session.flush()
            tokens = [TokenS0(token_id=number, author_id=author.author_id) for number in range(1, 6)]
            session.add_all(tokens)
            await session.commit()

            async def have_images():
                for token in tokens:
                    await session.refresh(token)
                await session.commit()
                return all(token.image_url for token in tokens)

            await until(have_images, seconds=30)
        await to_thread.run_sync(lines.until, "token.generation.succeeded", 5)
    finally:
        worker.kill()
        worker.communicate()
    removed = await to_thread.run_sync(lambda: wheels.complete(wheels.CHECKOUT, "migrate", "--down", "--yes", **urls))
    await execute(server, f"DROP OWNED BY {', '.join(NAMES.values())}")

    assert {(token.status, token.generation_attempts, token.generation_error) for token in tokens} == {
        (TokenStatus.UPLOADING, 0, None)
    }
    assert not [line for line in lines.read if line["level"] not in {"info", "debug"}]
    assert "removed schema reactor" in removed
    assert await snapshot(server) == before
