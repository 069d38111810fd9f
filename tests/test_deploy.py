"""The files in `deploy/` against the code: names, ports, paths, times and SQL. `make deploy-check` runs the tools."""

import json
import re
import shlex
import tomllib
import uuid
from pathlib import Path

import asyncpg
import pytest
import yaml
from strangers import PASSWORD, as_role

from reactor.database.connections import SERVER_SETTINGS
from reactor.database.timings import CONNECTION_TIMINGS
from reactor.engine.timings import TIMINGS
from reactor.settings import SECRETS, Settings
from reactor.systemd import ServiceManager
from reactor.web.guard import OPEN

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file() and path.name != "replicate_api_token")
UNIT = (DEPLOY / "systemd/reactor.service").read_text()
CONTAINERFILE = (DEPLOY / "container/Containerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# What a stop may take beyond the grace: the answer to the last outcome, the last writes, and the connections' end.
BEYOND_THE_GRACE = TIMINGS.answer_within + CONNECTION_TIMINGS.answer_within
MADE_UP = {"DATABASE_URL": "postgresql://reactor@db/app", "REPLICATE_API_TOKEN": "r8_x", "HTTP_TOKEN": "a-token"}
NO_SETTING = re.compile(r"POSTGRES_\w+|PYTHONFAULTHANDLER")


def documents(name):
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def of_kind(kind):
    found = [each for path in DEPLOY.glob("kubernetes/*.yaml") for each in documents(path) if each["kind"] == kind]
    return found[0] if len(found) == 1 else pytest.fail(f"{len(found)} of kind {kind}")


def values(name):
    """The values that the unit gives to a name."""
    return re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)


def of_systemd():
    """The variables of the unit and of its example file, without those that name a credential."""
    lines = [*values("Environment"), *(DEPLOY / "systemd/reactor.env").read_text().splitlines()]
    words = [word for line in lines if line and not line.startswith("#") for word in shlex.split(line)]
    return dict(word.split("=", 1) for word in words)


def of_compose():
    service = documents("container/compose.yaml")[0]["services"]["reactor"]
    return {name: str(value) for name, value in service["environment"].items()}


def of_kubernetes():
    (container,) = of_kind("Deployment")["spec"]["template"]["spec"]["containers"]
    return of_kind("ConfigMap")["data"] | {each["name"]: each["value"] for each in container["env"]}


GIVEN = {"systemd": of_systemd(), "compose": of_compose(), "kubernetes": of_kubernetes()}


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix != ".md"], ids=lambda path: path.name)
def test_a_file_says_what_was_run_and_what_was_not(path):
    text = path.read_text()
    top = json.loads(text)["description"] if path.suffix == ".json" else re.match(r"((#|--).*\n)+", text)[0]

    assert " Run: " in top.replace("\n# ", " ").replace("\n-- ", " ")
    assert "Not run: " in top.replace("\n# ", " ").replace("\n-- ", " ")


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_every_variable_is_a_setting_and_its_value_is_valid(given, monkeypatch, tmp_path):
    known = {name.upper() for name in Settings.model_fields} | {f"{name.upper()}_FILE" for name in SECRETS}

    assert {name for name in given if not NO_SETTING.fullmatch(name)} <= known
    for name, value in given.items():
        if name.endswith("_FILE"):
            (tmp_path / name).write_text(MADE_UP[name.removesuffix("_FILE")])
        monkeypatch.setenv(name, str(tmp_path / name) if name.endswith("_FILE") else value)
    loaded = Settings.load(_env_file=None)
    assert loaded.replicate_api_token.get_secret_value() == MADE_UP["REPLICATE_API_TOKEN"]


def test_no_secret_is_in_a_file():
    for path in FILES:
        assert not re.search(r"r8_|postgresql://\w+:[^@\s]*@", path.read_text()), path


def test_a_base_image_has_a_short_name():
    compose = (DEPLOY / "container/compose.yaml").read_text()
    kubernetes = "".join(path.read_text() for path in DEPLOY.glob("kubernetes/*.yaml"))
    images = re.findall(r"^ARG PYTHON=(.*)$", CONTAINERFILE, re.MULTILINE)
    images += re.findall(r"_IMAGE:-(.*?)}", compose) + re.findall(
        r"^ +image: (?!\$)(.*)$", compose + kubernetes, re.MULTILINE
    )

    assert len(images) >= 6
    assert all(re.fullmatch(r"[\w.:-]+", image) for image in images)
    assert set(re.findall(r"^FROM (\S+)", CONTAINERFILE, re.MULTILINE)) == {"${PYTHON}"}


def test_ports_and_paths_agree():
    port = Settings.model_fields["http_port"].default
    (container,) = of_kind("Deployment")["spec"]["template"]["spec"]["containers"]
    probes = [container[name]["httpGet"] for name in ("livenessProbe", "readinessProbe")]
    health = documents("container/compose.yaml")[0]["services"]["reactor"]["healthcheck"]["test"][-1]

    assert re.findall(r"^EXPOSE (.*)$", CONTAINERFILE, re.MULTILINE) == [f"{port}"]
    assert [each["containerPort"] for each in container["ports"]] == [port]
    assert [each["ports"] for each in of_kind("NetworkPolicy")["spec"]["ingress"]] == [
        [{"port": port, "protocol": "TCP"}]
    ]
    assert {GIVEN[place]["HTTP_PORT"] for place in ("systemd", "kubernetes")} == {f"{port}"}
    assert [probe["path"] for probe in probes] == ["/livez", "/readyz"]
    assert {probe["path"] for probe in probes} <= OPEN
    assert {probe["port"] for probe in probes} == {container["ports"][0]["name"]}
    assert f"http://127.0.0.1:{port}/livez" in health


def test_a_stop_is_given_longer_than_it_takes():
    pod = of_kind("Deployment")["spec"]["template"]["spec"]
    service = documents("container/compose.yaml")[0]["services"]["reactor"]
    allowed = {
        "systemd": float(values("TimeoutStopSec")[0]),
        "compose": float(service["stop_grace_period"].removesuffix("s")),
        "kubernetes": pod["terminationGracePeriodSeconds"],
    }

    for place, seconds in allowed.items():
        assert seconds > float(GIVEN[place]["SHUTDOWN_GRACE_SECONDS"]) + BEYOND_THE_GRACE, place


def test_a_start_is_given_longer_than_the_first_try_takes():
    first_try = CONNECTION_TIMINGS.connect_within + CONNECTION_TIMINGS.answer_within

    assert float(values("TimeoutStartSec")[0]) > 2 * first_try
    assert float(values("WatchdogSec")[0]) >= 10
    assert values("Type") == ["notify"]
    assert ServiceManager.of({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "30000000"})


def test_the_image_has_what_the_package_is_built_from():
    copied = set(re.findall(r"^COPY (?!--from)(.*) \S+$", CONTAINERFILE, re.MULTILINE))
    wheel, project = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"], PROJECT["project"]
    needed = {*wheel["packages"], *wheel["force-include"], project["readme"], *project["license-files"]}

    assert needed | {"pyproject.toml", "requirements.lock"} == set(" ".join(copied).split())


def test_every_container_runs_as_the_images_user_on_a_read_only_root():
    (user,) = re.findall(r"^USER (\d+):\1$", CONTAINERFILE, re.MULTILINE)
    version = PROJECT["project"]["version"]
    for kind in ("Deployment", "Job"):
        pod = of_kind(kind)["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        given, limits = pod["securityContext"], container["securityContext"]
        ids = {given["runAsUser"], given["runAsGroup"], given["fsGroup"]}

        assert (ids, given["runAsNonRoot"]) == ({int(user)}, True)
        assert limits == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["image"] == f"reactor:{version}"
    for name in ("migrate", "reactor"):
        service = documents("container/compose.yaml")[0]["services"][name]
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])


@pytest.mark.anyio
async def test_the_settings_of_postgresql_are_taken_and_taken_again(database, connection, connect):
    options = "SELECT unnest(reloptions) FROM pg_class WHERE oid = 'tokens_s0'::regclass ORDER BY 1"
    made = [row[0] for row in await connection.fetch(options)]
    names = ", ".join(option.partition("=")[0] for option in made)
    await connection.execute(f"ALTER TABLE tokens_s0 RESET ({names})")
    for _ in range(2):
        await connection.execute((DEPLOY / "postgres/settings.sql").read_text())
    later = await connect()

    assert [row[0] for row in await connection.fetch(options)] == made
    assert {"autovacuum_vacuum_scale_factor=0.01", "vacuum_index_cleanup=on"} <= set(made)
    assert await later.fetchval("SHOW idle_in_transaction_session_timeout") == "1min"
    for name in ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count"):
        assert await later.fetchval("SELECT source FROM pg_settings WHERE name = $1", name) == "database"
        assert name in SERVER_SETTINGS


@pytest.fixture
async def scalers_url(connection, database):
    """The URL of scaler.sql's role, under a name of this test alone."""
    name = f"scaler_{uuid.uuid4().hex[:12]}"
    await connection.execute((DEPLOY / "postgres/scaler.sql").read_text().replace("reactor_scaler", name))
    await connection.execute(f"ALTER ROLE {name} PASSWORD '{PASSWORD}'")
    yield as_role(database, name)
    await connection.execute(
        f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{name}';"
        f"DROP OWNED BY {name}; DROP ROLE {name}"
    )


@pytest.fixture
async def scaler(scalers_url, connect_to):
    """Run a query of keda.yaml, by its trigger's name, as the scaler's role."""
    client = await connect_to(scalers_url)
    queries = {each["name"]: each["metadata"]["query"] for each in of_kind("ScaledObject")["spec"]["triggers"]}

    async def ask(name, explain=""):
        return [row[0] for row in await client.fetch(explain + queries[name])]

    return ask


@pytest.mark.anyio
async def test_the_scaler_counts_what_can_be_worked_on_now(scaler, connection, make_token):
    assert await scaler("depth") == [0]
    await make_token()
    await make_token(status="generating")
    await make_token(status="uploading", image_url="https://replicate.delivery/1.webp")
    for seconds in (-60, 60):
        await connection.execute(
            "UPDATE tokens_s0 SET generation_due_at = now() + make_interval(secs => $1) WHERE token_id = $2",
            seconds,
            await make_token(),
        )

    assert await scaler("depth") == [3]


@pytest.mark.anyio
async def test_the_scaler_tells_how_long_the_oldest_mint_waits_unless_the_gate_is_closed(
    scaler, connection, make_token
):
    assert await scaler("age") == [0]
    await make_token()
    await connection.execute("UPDATE tokens_s0 SET mint_timestamp = now() - interval '90 s'")
    await connection.execute("INSERT INTO tokens_s0 (mint_timestamp) VALUES ('-infinity')")
    (waits,) = await scaler("age")
    await connection.execute("UPDATE reactor.intake SET paused_until = 'infinity'")

    assert 90 <= waits < 150
    assert await scaler("age") == [0]


@pytest.mark.anyio
async def test_the_scaler_reads_the_partial_indexes_and_may_write_nothing(scaler, scalers_url, connect_to, connection):
    await connection.execute(
        "INSERT INTO tokens_s0 (status, image_url) SELECT 'uploading', 'https://x' FROM generate_series(1, 20000);"
        "ANALYZE tokens_s0"
    )
    plans = "\n".join(await scaler("depth", "EXPLAIN ") + await scaler("age", "EXPLAIN "))
    client = await connect_to(scalers_url)

    assert "Seq Scan on tokens_s0" not in plans
    for statement in ("UPDATE tokens_s0 SET status = 'failed'", "SELECT prompt_text FROM authors", "CREATE TABLE x ()"):
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError)):
            await client.execute(statement)
