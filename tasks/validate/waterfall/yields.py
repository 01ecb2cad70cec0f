"""The data of the yield waterfall: how many of the rows that were asked for passed each step.

Steps are in the pipeline's order, so counts never rise from one to the next. A row is lost once, at the first step that
it did not pass, and counted under the rule that removed it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

WATERFALL = "waterfall.json"
STEPS = ("asked", "answered", "parsed", "judged_good", "wanted", "valid", "uncontaminated", "distinct", "trained")
"""``wanted``: within ``limits.rows``. ``trained`` is of the train stage, which may set rows aside. Rows that pass the
last step are kept."""
TRAINED = STEPS[-1]
KEPT = "kept"


@dataclass(frozen=True)
class Group:
    """The rows of one prompt on the documents of one source; ``(collected)`` for documents that are rows themselves.

    ``asked`` counts a request without a row as one; ``lost`` is by step and rule.
    """

    prompt: str
    source: str
    asked: int
    lost: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """How many rows passed each step, in order."""
        left, counts = self.asked, {}
        for step in STEPS:
            left -= sum(self.lost.get(step, {}).values())
            counts[step] = left
        return counts

    @property
    def kept(self) -> int:
        """Rows that passed all steps."""
        return self.counts[STEPS[-1]]


@dataclass(frozen=True)
class Waterfall:
    """All groups: collected rows first, then by prompt and source."""

    groups: tuple[Group, ...] = ()

    @property
    def total(self) -> Group:
        """All groups as one."""
        return _merged(self.groups, "all", "all")

    def with_training(self, set_aside: Iterable[tuple[str, str, str]]) -> Waterfall:
        """The same less the rows that the training set aside: prompt, source (or ``all``) and rule of each."""
        lost: dict[tuple[str, str], Counter[str]] = {}
        for prompt, source, rule in set_aside:
            lost.setdefault((prompt, source), Counter())[rule] += 1
        return Waterfall(
            tuple(
                replace(group, lost={**group.lost, TRAINED: dict(lost[group.prompt, group.source].most_common())})
                if (group.prompt, group.source) in lost
                else group
                for group in self.groups
            )
        )

    def by_prompt(self) -> Waterfall:
        """The same with one group per prompt."""
        by_prompt: dict[str, list[Group]] = {}
        for group in self.groups:
            by_prompt.setdefault(group.prompt, []).append(group)
        return Waterfall(tuple(_merged(groups, prompt, "all") for prompt, groups in by_prompt.items()))

    def as_json(self) -> dict[str, Any]:
        """JSON-like data; ``counts`` follow from ``lost``."""
        groups = [
            {
                "prompt": group.prompt,
                "source": group.source,
                "counts": group.counts,
                KEPT: group.kept,
                "lost": group.lost,
            }
            for group in self.groups
        ]
        return {"steps": list(STEPS), "groups": groups}


def read_waterfall(path: Path) -> Waterfall:
    """Read ``waterfall.json``."""
    return waterfall_from_json(json.loads(path.read_text(encoding="utf-8")))


def waterfall_from_json(found: Mapping[str, Any]) -> Waterfall:
    """The inverse of :meth:`Waterfall.as_json`."""
    groups = found["groups"]
    return Waterfall(
        tuple(Group(group["prompt"], group["source"], group["counts"][STEPS[0]], group["lost"]) for group in groups)
    )


def losses_by_step(fates: Iterable[tuple[str, str, int]]) -> dict[str, dict[str, int]]:
    """Lost rows by step, in order, and by rule, most first, from (step, rule, rows)."""
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
