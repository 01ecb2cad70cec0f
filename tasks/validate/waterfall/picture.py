"""Draw the yield waterfall: all rows step by step, and below the shares of each group's rows that each step removed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.validate.waterfall.yields import KEPT, STEPS, TRAINED, Group, Waterfall

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

MOST_GROUPS = 12
NAME_CHARACTERS = 100
WIDTH = 11.0
TOTAL_HEIGHT, GROUP_HEIGHT, SPARE_HEIGHT = 4.0, 0.58, 1.3
"""Inches: the upper picture, one bar of the lower picture with its name, and the space around these bars."""
MARGIN = 0.15
"""Inches around each part."""
REST_COLOUR = "#BBBBBB"
PARTS = {
    KEPT: (KEPT, "#009E73", "white"),
    "answered": ("not answered", "#000000", "white"),
    "parsed": ("not parsed", "#E69F00", "black"),
    "judged_good": ("judged bad", "#56B4E9", "black"),
    "wanted": ("surplus", "#F0E442", "black"),
    "valid": ("not valid", "#D55E00", "white"),
    "uncontaminated": ("contaminated", "#CC79A7", "black"),
    "distinct": ("duplicate", "#0072B2", "white"),
    TRAINED: ("not trainable", "#999933", "black"),
}
"""The name of each part of a bar, its colour (Okabe and Ito's palette, for the colour-blind) and that of its number."""
CHARACTER_SHARE = 0.012
"""The width of a digit as a share of a bar; a part too narrow for its number has none."""


def draw_waterfall(found: Waterfall, path: Path) -> None:
    """Draw a PNG with the largest groups, at most MOST_GROUPS; a single group has no lower picture."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    largest = sorted(found.groups, key=lambda group: -group.asked)[:MOST_GROUPS]
    shown = [group for group in found.groups if group in largest] if len(found.groups) > 1 else []
    heights = [TOTAL_HEIGHT, *([GROUP_HEIGHT * len(shown) + SPARE_HEIGHT] if shown else [])]
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"text.parse_math": False, "font.size": 10}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # names in scripts that the font lacks
        figure = Figure(figsize=(WIDTH, sum(heights)))
        FigureCanvasAgg(figure)
        figure.set_layout_engine("constrained", w_pad=MARGIN, h_pad=MARGIN)
        parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        _draw_total(parts[0].subplots(), found.total)
        if shown:
            _draw_groups(parts[1], shown, len(found.groups) - len(shown))
        figure.savefig(path, dpi=110, metadata={"Software": None})


def _draw_total(axes: Axes, total: Group) -> None:
    counts = total.counts
    before = total.asked
    drawn = [step for step in STEPS if step != TRAINED or step in total.lost]  # it is drawn before the training too
    for number, step in enumerate(drawn):
        count = counts[step]
        axes.bar(number, count, color=PARTS[KEPT][1] if number == len(drawn) - 1 else REST_COLOUR, width=0.7)
        text = f"{count:,}"
        if before > count:
            axes.bar(number, before - count, bottom=count, color=PARTS[step][1], width=0.7)
            text += f"\n\u2212{before - count:,}"
        axes.text(number, before, text, ha="center", va="bottom")
        before = count
    names = [step.replace("_", "\n") for step in drawn]
    axes.set_xticks(range(len(drawn)), [*names[:-1], f"{names[-1]}\n= kept"])
    axes.set_ylim(0, max(total.asked, 1) * 1.18)
    axes.yaxis.set_major_formatter(lambda rows, _: f"{rows:,.0f}")
    axes.set_ylabel("rows")
    share = f" ({total.kept / total.asked:.1%})" if total.asked else ""
    axes.set_title(f"{total.kept:,} of {total.asked:,} rows kept{share}", loc="left", fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_groups(figure: SubFigure, groups: Sequence[Group], left_out: int) -> None:
    axes = figure.subplots()
    drawn: dict[str, Artist] = {}
    for number, group in enumerate(groups):
        left = 0.0
        parts = {KEPT: group.kept} | {step: sum(rules.values()) for step, rules in group.lost.items()}
        for part, count in parts.items():
            _, colour, ink = PARTS[part]
            share, text = count / group.asked, f"{count:,}"
            if count:
                drawn[part] = axes.barh(number, share, left=left, color=colour, height=0.5)[0]
            if share >= CHARACTER_SHARE * len(text):
                axes.text(left + share / 2, number, text, ha="center", va="center_baseline", color=ink)
            left += share
        axes.text(0, number - 0.29, _name(group), ha="left", va="bottom")
    axes.set_yticks([])
    axes.set_ylim(len(groups) - 0.6, -0.75)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    more = f"; the {len(groups)} largest of {len(groups) + left_out}" if left_out else ""
    axes.set_title(f"by prompt and document source{more}", loc="left", fontweight="bold")
    axes.spines[["top", "right", "left"]].set_visible(False)
    shown = [part for part in PARTS if part in drawn]
    bars, names = [drawn[part] for part in shown], [PARTS[part][0] for part in shown]
    style: dict[str, Any] = {"frameon": False, "columnspacing": 1.2, "handlelength": 1.2}
    figure.legend(bars, names, ncols=len(shown), loc="outside lower center", **style)


def _name(group: Group) -> str:
    room = max(20, NAME_CHARACTERS - len(group.prompt))
    source = group.source if len(group.source) <= room else "\u2026" + group.source[-room:]
    return f"{group.prompt} \u00b7 {source}: {group.kept:,} of {group.asked:,}"
