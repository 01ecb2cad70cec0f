"""What the training did, for the report: in sentences, and on the page with curve, mix and masking proof."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.core.artifacts import REPORT_FOLDER

MIB = 2**20
CURVE = "loss.png"
LONGEST_EXAMPLE = 1200

Stage = Mapping[str, Any]


def train_lines(stage: Stage) -> list[str]:
    """What was trained with what, what it took, and what became of rows that were too long."""
    found = stage.get("training")
    if not found:
        return []
    backend = f"{found['method']} with {found['backend']} on {found['device']} in {found['dtype']}"
    share = f"{found['trainable_parameters']:,} of {found['total_parameters']:,} parameters"
    steps = f"{found['steps']} steps, last loss {found['final_loss']:.3f}"
    lines = [f"Trained: {backend}; {share}; {steps}; optimizer {found['optimizer']}{_batches(found)}."]
    lines.append(
        f"Masking: {found['trained_token_share']:.1%} of {found['tokens']:,} tokens are learned{_cost(found)}."
    )
    if over := _over_length(found.get("over_length", {})):
        lines.append(f"Rows over the maximum length: {over}.")
    if found.get("initial_adapter"):
        lines.append(f"It went on from version {found['initial_adapter']['version']}.")
    if len(found.get("mix", {})) > 1:
        lines.append(f"Mix: {', '.join(_share(name, group) for name, group in found['mix'].items())}.")
    return lines


def training_markdown(stage: Stage, link: str) -> list[str]:
    """The page's section: the curve, the shares by source, and an example with the learned part marked.

    Args:
        stage: of the record.
        link: of the curve's picture, as seen from the page.
    """
    folder = Path(stage["path"])
    lines = ["## Training", ""]
    if (folder / REPORT_FOLDER / CURVE).is_file():
        lines += [f"![Loss and learning rate]({link})", ""]
    lines += _mix_table(_read(folder / "mix.json"))
    if example := _read(folder / "masking.json").get("example"):
        shown = example if len(example) <= LONGEST_EXAMPLE else example[:LONGEST_EXAMPLE] + " ..."
        fence = "`" * (1 + max([2, *map(len, re.findall("`+", shown))]))
        lines += ["One row as the trainer sees it, what is learned in [[ ]]:", "", fence, shown.rstrip(), fence, ""]
    return lines


def _read(path: Path) -> dict[str, Any]:
    """A file of the artifact; nothing where it is gone."""
    if not path.is_file():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _mix_table(mix: Mapping[str, Any]) -> list[str]:
    rows: Sequence[tuple[str, Mapping[str, Any]]] = [
        (f"{kind}: {name}".replace("|", "\\|"), part)
        for kind, parts in (("group", mix.get("groups", {})), ("source", mix.get("sources", {})))
        for name, part in parts.items()
        if len(parts) > 1 or kind == "group"
    ]
    if len(rows) < 2:
        return []
    table = [
        "| trained on | rows there | rows trained | asked | reached | most repeats | tokens |",
        "|---|" + "---:|" * 6,
    ]
    for name, part in rows:
        asked = "-" if part["share_asked"] is None else f"{part['share_asked']:.1%}"
        counts = f"{part['rows_before']:,} | {part['rows_after']:,} | {asked} | {part['share_reached']:.1%}"
        table.append(f"| {name} | {counts} | {part['repeats']} | {part['tokens']:,} |")
    return [*table, ""]


def _batches(found: Stage) -> str:
    rows = found["batch_size"] * found["accumulation_steps"] * found.get("processes", 1)
    unit = "packed sequences" if found.get("packing") else "rows"
    resumed = f"; resumed from step {found['resumed_from']}" if found.get("resumed_from") else ""
    return f", {rows} {unit} a step{resumed}"


def _cost(found: Stage) -> str:
    said = []
    if found.get("tokens_per_second"):
        said.append(f"{found['tokens_per_second']:,.0f} tokens a second")
    if found.get("peak_memory_bytes"):
        said.append(f"peak memory {found['peak_memory_bytes'] // MIB:,} MiB")
    if found.get("mfu"):
        said.append(f"model FLOPs utilisation {found['mfu']:.1%}")
    return "".join(f"; {part}" for part in said)


def _over_length(counts: Mapping[str, int]) -> str:
    names = {
        "dropped": "dropped {}",
        "truncated": "truncated {}",
        "tokens_cut": "tokens cut {}",
        "split": "split {}",
        "pieces": "into {} pieces",
        "exchanges_dropped": "exchanges dropped {}",
    }
    return ", ".join(text.format(counts[name]) for name, text in names.items() if counts.get(name))


def _share(name: str, group: Mapping[str, Any]) -> str:
    return f"{name} {group['share_reached']:.1%} ({group['rows_after']:,} rows, {group['tokens']:,} tokens)"
