"""Run systemd-analyze, hadolint, docker compose, promtool and the schemas of Kubernetes and KEDA on `deploy/`.

Exits 1 if one of them complains. systemd-analyze is Debian's package systemd, promtool its package prometheus; what is
not there is not run, and that is said.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

HERE = Path(__file__).parents[2]
DEPLOY = HERE / "deploy"
BIN = Path(sys.executable).parent
KUBERNETES = ("1.33", "1.37")
MOST_EXPOSED = 15  # tenths, of systemd-analyze's scale from 0 to 10
RULES, CASES = DEPLOY / "prometheus/alerts.yml", Path(__file__).parent / "alerts_test.yml"
UNIT = DEPLOY / "systemd/reactor.service"


def main():
    failed = [what for what, complaint in checks() if not told(what, complaint)]
    sys.exit(bool(failed))


def told(what, complaint):
    """Print the result of a check; return whether it passed."""
    print(f"{'FAILED' if complaint else 'passed'}  {what}", flush=True)
    if complaint:
        print(complaint, flush=True)
    return not complaint


def checks():
    """Each check's name, and its complaint; an empty one if it passed."""
    if shutil.which("systemd-analyze"):
        yield "systemd-analyze verify", verified()
        limits = ("--offline=true", f"--threshold={MOST_EXPOSED}")
        yield "systemd-analyze security", complaint_of("systemd-analyze", "security", "--no-pager", *limits, UNIT)
    else:
        print("not run: systemd-analyze, which is not on PATH")
    yield "hadolint", complaint_of(BIN / "hadolint", DEPLOY / "container/Containerfile")
    compose = (BIN / "docker-compose", "-f", DEPLOY / "container/compose.yaml", "config", "--quiet")
    yield "docker compose config", complaint_of(*compose)
    plain = [path for path in sorted(DEPLOY.glob("kubernetes/*.yaml")) if path.name != "keda.yaml"]
    for version in KUBERNETES:
        validate = (BIN / "kubernetes-validate", "--strict", "--quiet", "-k", version)
        yield f"schemas of Kubernetes {version}", complaint_of(*validate, *plain)
    yield "models of KEDA", complaint_of_keda()
    if shutil.which("promtool"):
        yield "promtool check rules", complaint_of("promtool", "check", "rules", "--lint-fatal", RULES)
        yield "promtool test rules", tested()
        yield "promtool, expressions of the board", complaint_of_board()
    else:
        print("not run: promtool, which is not on PATH")


def complaint_of(*command):
    """What the command says, if it exits with another code than 0 or warns."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "NO_COLOR": "1"})
    said = (done.stdout + done.stderr).strip()
    return said or f"exit code {done.returncode}" if done.returncode or "WARN" in said else ""


def verified():
    """systemd-analyze's complaint about a copy whose program exists on this machine; it warns without an exit code."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / UNIT.name
        copy.write_text(UNIT.read_text().replace("/opt/reactor/bin/", f"{BIN}/"))
        done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()


def tested():
    """promtool's complaint about the cases; it looks for the rules beside them."""
    with tempfile.TemporaryDirectory() as folder:
        for path in (RULES, CASES):
            shutil.copy(path, folder)
        return complaint_of("promtool", "test", "rules", Path(folder) / CASES.name)


def complaint_of_board():
    """Check the board's expressions as rules, because promtool knows no boards."""
    board = json.loads((DEPLOY / "grafana/reactor.json").read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    rules = [
        {"record": f"board:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(expressions)
    ]
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "board.yml"
        written.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
        return complaint_of("promtool", "check", "rules", written)


def complaint_of_keda():
    """Load KEDA's resources with its models, and compare what they keep with what was given."""
    from cloudcoil.models.keda import v1alpha1  # noqa: PLC0415  (only this target installs it)
    from pydantic import ValidationError  # noqa: PLC0415

    complaints = []
    for given in yaml.safe_load_all((DEPLOY / "kubernetes/keda.yaml").read_text()):
        try:
            kept = getattr(v1alpha1, given["kind"]).model_validate(given)
        except ValidationError as error:
            complaints.append(str(error))
        else:
            complaints += unknown(given, kept.model_dump(by_alias=True, exclude_none=True, mode="json"), given["kind"])
    return "\n".join(complaints)


def unknown(given, kept, place):
    """The fields that the models do not know."""
    if isinstance(given, dict):
        for name, value in given.items():
            if name in kept:
                yield from unknown(value, kept[name], f"{place}.{name}")
            else:
                yield f"{place}.{name} is not a field"
    elif isinstance(given, list):
        for each, one in zip(given, kept, strict=True):
            yield from unknown(each, one, place)


if __name__ == "__main__":
    main()
