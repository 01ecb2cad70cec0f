"""What came of the rows that were asked for, step by step: the words and numbers of the yield waterfall.

The steps stand in the order in which the pipeline takes them, so that counts never rise from one to the next, and each
loss is named by the rule that took the row. A row is lost once, to the first step that it did not get through.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WATERFALL = "waterfall.json"
STEPS = ("asked", "answered", "parsed", "judged_good", "wanted", "valid", "uncontaminated", "distinct")
"""``wanted``: within ``limits.rows``. What is left after the last step is kept."""
KEPT = "kept"


@dataclass(frozen=True)
class Group:
    """The rows of one prompt on the documents of one source.

    Attributes:
        prompt: its name; ``(collected)`` stands for documents that train as they are.
        source: as the documents name it.
        asked: rows asked for: a request that gave no row counts as one, one that gave several as so many.
        lost: by step, how many rows did not get through it, by rule.
    """

    prompt: str
    source: str
    asked: int
    lost: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """How many rows got through each step, in the steps' order."""
        left, counts = self.asked, {}
        for step in STEPS:
            left -= sum(self.lost.get(step, {}).values())
            counts[step] = left
        return counts

    @property
    def kept(self) -> int:
        """Rows that got through all steps."""
        return self.counts[STEPS[-1]]


@dataclass(frozen=True)
class Waterfall:
    """All groups: collected rows first, then by prompt and source."""

    groups: tuple[Group, ...] = ()

    @property
    def total(self) -> Group:
        """All groups as one."""
        return _merged(self.groups, "all", "all")

    def by_prompt(self) -> Waterfall:
        """The same with the sources of a prompt as one group."""
        names = dict.fromkeys(group.prompt for group in self.groups)
        return Waterfall(tuple(_merged([one for one in self.groups if one.prompt == name], name, "all")
                               for name in names))  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """JSON-like data; ``counts`` are there for readers, ``lost`` is what they follow from."""
        groups = [
            {"prompt": one.prompt, "source": one.source, "counts": one.counts, KEPT: one.kept, "lost": one.lost}
            for one in self.groups
        ]
        return {"steps": list(STEPS), "groups": groups}


def read_waterfall(path: Path) -> Waterfall:
    """The waterfall in ``waterfall.json``."""
    return waterfall_from_json(json.loads(path.read_text(encoding="utf-8")))


def waterfall_from_json(found: Mapping[str, Any]) -> Waterfall:
    """What :meth:`Waterfall.as_json` gave."""
    groups = (Group(one["prompt"], one["source"], one["counts"][STEPS[0]], one["lost"]) for one in found["groups"])
    return Waterfall(tuple(groups))


def losses_by_step(fates: Iterable[tuple[str, str, int]]) -> dict[str, dict[str, int]]:
    """Rows by step and rule, of (step, rule, rows): in the steps' order, the commonest rule first; kept rows aside."""
    ordered = sorted((fate for fate in fates if fate[0] != KEPT), key=lambda fate: (STEPS.index(fate[0]), -fate[2]))
    lost: dict[str, dict[str, int]] = {}
    for step, rule, count in ordered:
        lost.setdefault(step, {})[rule] = count
    return lost


def _merged(groups: Iterable[Group], prompt: str, source: str) -> Group:
    groups = list(groups)
    fates: Counter[tuple[str, str]] = Counter()
    for group in groups:
        fates.update({(step, rule): count for step, rules in group.lost.items() for rule, count in rules.items()})
    lost = losses_by_step((step, rule, count) for (step, rule), count in fates.items())
    return Group(prompt, source, sum(group.asked for group in groups), lost)
