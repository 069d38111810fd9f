"""A short torture loses nothing, settles nothing twice and pays nothing twice."""

import random

import anyio
import pytest
from torture.report import evidence, figures
from torture.run import stage, torture

from reactor.embedded import EmbeddedPostgres


@pytest.mark.skipif(not EmbeddedPostgres.available(), reason="restarts its own PostgreSQL")
@pytest.mark.timeout(240)
def test_tokens_survive_a_short_torture():
    seed = random.randrange(10**6)
    told = [f"seed {seed}"]
    with stage("ci", seed) as house:
        result = anyio.run(lambda: torture(house, "ci", seed, tell=told.append))

    assert result.well, "\n".join([*told, *evidence(result), *figures(result)])
