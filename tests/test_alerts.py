"""The alerts and the board in `deploy/`: every metric is one that a worker exports, and each alert says what to do."""

import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from reactor.web.metrics import GAUGES, Metrics

DEPLOY = Path(__file__).parents[1] / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"][0]["rules"]
BOARD = json.loads((DEPLOY / "grafana/reactor.json").read_text())
CASES = (Path(__file__).parent / "manifests/alerts_test.yml").read_text()
TARGETS = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
OF_PROMETHEUS = {"up"}
NAME = re.compile(r"\b(up|(?:image_generation|reactor|process)_\w+)\b(?=[{\[,)]|$)")
COMMAND = re.compile(r"`([^`]+)`|pg_terminate_backend|look at|Raise|set LISTEN|nothing else has to be done")


def exported():
    """The names of all samples that a worker's /metrics can have."""
    text = Metrics().render(dict.fromkeys(GAUGES, 1.0)).decode()
    names = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    families = re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE)
    histograms = {f"{name}_bucket" for name, kind in families if kind == "histogram"}
    return names | {name for name, _ in families} | histograms | OF_PROMETHEUS


def names_in(expression):
    return set(NAME.findall(re.sub(r"\{[^}]*\}", "{}", expression)))


@pytest.mark.parametrize("expression", [rule["expr"] for rule in RULES] + TARGETS)
def test_every_metric_is_one_that_a_worker_exports(expression):
    names = names_in(expression)

    assert names
    assert names <= exported()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_alert_says_what_to_do_and_is_tried(rule):
    told = rule["annotations"]

    assert set(told) == {"summary", "description"}
    assert COMMAND.search(told["description"])
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert CASES.count(rule["alert"]) >= 2  # once quiet, once raised


def test_every_command_that_an_alert_names_is_one():
    from reactor.cli import commands  # noqa: PLC0415

    named = re.findall(r"`reactor (\w+)", " ".join(rule["annotations"]["description"] for rule in RULES))

    assert named
    assert set(named) - {"audit"} <= set(commands.commands)


def test_the_board_is_one_that_grafana_can_show():
    ids = [panel["id"] for panel in BOARD["panels"]]
    cells = [
        (x, y)
        for panel in BOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]

    assert len(ids) == len(set(ids))
    assert len(cells) == len(set(cells))  # no panel lies on another
    assert max(x for x, _ in cells) < 24
    for panel in BOARD["panels"]:
        assert {"id", "type", "title", "description", "datasource", "gridPos", "fieldConfig", "targets"} <= set(panel)
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert {variable["name"] for variable in BOARD["templating"]["list"]} == {"datasource", "job"}
    assert BOARD["schemaVersion"] >= 39
