"""The picture for README.md beside this file, drawn from the medians."""

import matplotlib as mpl
from matplotlib.figure import Figure

PANELS = (
    ("a. reaction", "no-op", "p50_ms", "commit → handler, ms (p50)"),
    ("a. reaction", "at provider", "p50_ms", "commit → request at the provider, ms (p50)"),
    ("b. drain", "10 slots", "per_second", "drain, 10 slots, tokens/s"),
    ("b. drain", "100 slots", "per_second", "drain, 100 slots, tokens/s"),
    ("c. burst", "100 slots", "settled_ms", "1,000 in one statement → settled, ms"),
    ("d. producer", "worker busy", "commits_per_second", "16 producers, commits/s, worker busy"),
)
OURS, OTHERS = "#d9480f", "#adb5bd"


def draw(path, rows):
    """Draw the panels that were measured."""
    measured = [(panel, bars) for panel in PANELS if (bars := _bars(rows, panel))]
    if not measured:
        return
    rows_of_two = (len(measured) + 1) // 2
    figure = Figure(figsize=(10, 1.9 * rows_of_two + 0.5))
    axes = figure.subplots(rows_of_two, 2, squeeze=False)
    for axis in axes.flat[len(measured) :]:
        axis.set_visible(False)
    for axis, ((_scenario, _case, _name, title), bars) in zip(axes.flat, measured, strict=False):
        names, values = zip(*reversed(bars), strict=True)
        drawn = axis.barh(names, values, color=[OURS if "reactor" in name else OTHERS for name in names])
        axis.bar_label(drawn, fmt=_shown, padding=3, fontsize=8)
        axis.set_xlim(0, max(values) * 1.2)
        scale = ""
        if max(values) > 50 * min(values):  # otherwise the poller's half a second would hide all other bars
            scale = ", logarithmic"
            axis.set_xscale("symlog", linthresh=min(values))
            axis.set_xlim(0, max(values) * 5)
        axis.set_title(f"{title}{scale}", fontsize=9, loc="left")
        axis.set_xticks([])  # each bar has its own label
        axis.minorticks_off()
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    figure.tight_layout()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "bench"}):  # keep text as text in the SVG
        figure.savefig(path, metadata={"Date": None, "Creator": None})


def _shown(value):
    return f"{value:,.0f}" if value >= 50 else f"{value:.3g}"


def _bars(rows, panel):
    scenario, case, name, _title = panel
    found = [row for row in rows if (row["scenario"], row["case"]) == (scenario, case)]
    return [(row["subject"], row["figures"][name]) for row in found]
