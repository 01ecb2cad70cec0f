"""The validate stage beside what others offer, and how its time grows: .venv/bin/python -m benchmarks.validate [PART]

Three parts, each on texts and faults of benchmarks/rows.py; without PART all of them.

- contract: a verdict on the rules of benchmarks/contracts/messages.odcs.yaml. This stage (one Great Expectations
  checkpoint with its Data Docs, then every failing row with all rules it broke and the values, written as Parquet);
  bare Great Expectations (one checkpoint of the same suite on the same frame, SUMMARY results: it counts failing rows
  and names none); pandera, lazily, which names them; Pydantic, row by row. Each in a process of its own, in turns; the
  start of Python, imports and reading the rows are not counted.
- duplicates: near duplicates on the same texts with the same shingles, permutations and threshold. This stage
  normalises them, and verifies every candidate; datasketch gets them normalised, and trusts its estimate.
- stage: check_documents, validate and check_training_set as a night runs them, at growing sizes, with seconds by step,
  peak memory, and how much of what was planted was found.

Each ratio is that of one round; the medians and the ranges of the rounds are printed. pandera and datasketch have an
environment of their own, which ``make bench-setup`` builds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.rows import ROOT, read_inputs, write_inputs
from tasks.core.files import canonical_json
from tasks.core.messages import plain
from tasks.validate.config import NearDuplicates
from tasks.validate.normal_form import normalise

PEERS = ROOT / ".venv-bench-validate" / "bin" / "python"
ARMS = ROOT / "benchmarks" / "arms"
STAGE = "this stage"
CONTRACT_ARMS = {
    STAGE: [sys.executable, "-m", "benchmarks.arms.validate_stage", "contract"],
    "bare Great Expectations": [sys.executable, "-m", "benchmarks.arms.validate_gx"],
    "pandera": [str(PEERS), str(ARMS / "validate_pandera.py")],
    "Pydantic": [str(PEERS), str(ARMS / "validate_pydantic.py")],
}
DUPLICATE_ARMS = {
    STAGE: [sys.executable, "-m", "benchmarks.arms.validate_stage", "duplicates"],
    "datasketch": [str(PEERS), str(ARMS / "validate_datasketch.py")],
}
BATCH = 50_000
Runs = Mapping[str, Sequence[Mapping[str, float]]]


def write_rows(folder: Path, path: Path) -> None:
    """The generated rows as the contract sees them: texts, and the conversation as JSON text."""
    with pq.ParquetFile(read_inputs(folder).generated.folder / "rows.parquet") as rows:
        batches = [_as_checked(pa.Table.from_batches([batch])) for batch in rows.iter_batches(BATCH)]
    pq.write_table(pa.concat_tables(batches), path)


def _as_checked(rows: pa.Table) -> pa.Table:
    conversations = [canonical_json(plain(turns)) for turns in rows["messages"].to_pylist()]
    origin = pa.array(["generated"] * rows.num_rows)
    texts = rows.drop_columns(["messages"]).append_column("origin", origin)
    return texts.append_column("messages", pa.array(conversations))


def take_turns(arms: Mapping[str, Sequence[str]], source: Mapping[str, Path], rounds: int) -> Runs:
    """Run every arm once a round, in an order that rotates; what each printed, by arm."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
    names = list(arms)
    for number in range(rounds):
        turn = number % len(names)
        for name in [*names[turn:], *names[:turn]]:
            found[name].append(run([*arms[name], str(source[name])]))
            last = found[name][-1]
            print(f"round {number + 1}, {name}: {last['seconds']:.1f} s", file=sys.stderr, flush=True)
    return found


def run(command: Sequence[str]) -> dict[str, Any]:
    """The JSON line that a child process prints last."""
    child = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{child.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return found


def report(found: Runs, beside: str, failing: str) -> str:
    """The Markdown table: median rows a second, and each arm's seconds over those of the arm to compare with."""
    lines = [f"| arm | {failing} | rows a second | seconds, of {beside}: median (range) |", "|---|---|---|---|"]
    for name, runs in found.items():
        speed = statistics.median(one["rows"] / one["seconds"] for one in runs)
        ratios = [one["seconds"] / other["seconds"] for one, other in zip(runs, found[beside], strict=True)]
        span = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"| {name} | {runs[0]['failing']:,} | {speed:,.0f} | {span} |")
    return "\n".join(lines)


def compare_contracts(folder: Path, rows: int, rounds: int) -> None:
    write_inputs(folder, rows)
    checked = folder / "checked.parquet"
    write_rows(folder, checked)
    source = dict.fromkeys(CONTRACT_ARMS, checked) | {STAGE: read_inputs(folder).generated.folder / "rows.parquet"}
    found = take_turns(CONTRACT_ARMS, source, rounds)
    print(f"\n{pq.read_metadata(checked).num_rows:,} rows, {rounds} rounds\n")
    print(report(found, "bare Great Expectations", "rows found (bare: breaches)"))


def compare_duplicates(folder: Path, texts: int, rounds: int) -> None:
    write_inputs(folder, texts)
    config = NearDuplicates()
    written = pq.read_table(read_inputs(folder).generated.folder / "rows.parquet", columns=["message"])["message"]
    work = {**config.model_dump(), "texts": written.to_pylist()}
    (folder / "written.json").write_text(json.dumps(work), encoding="utf-8")
    work["texts"] = [normalise(text) for text in work["texts"]]
    (folder / "normalised.json").write_text(json.dumps(work), encoding="utf-8")
    source = {STAGE: folder / "written.json", "datasketch": folder / "normalised.json"}
    found = take_turns(DUPLICATE_ARMS, source, rounds)
    characters = pc.mean(pc.utf8_length(written)).as_py()
    print(f"\n{len(written):,} texts of {characters:.0f} characters on average, {rounds} rounds\n")
    print(report(found, STAGE, "dropped"))


def grow(folder: Path, sizes: Sequence[int]) -> None:
    found = {}
    for rows in sizes:
        at = folder / str(rows)
        write_inputs(at, rows)
        found[rows] = run([sys.executable, "-m", "benchmarks.arms.validate_night", str(at)])
        print(json.dumps({"rows": rows, **found[rows]}, indent=1), file=sys.stderr, flush=True)
    print("\n| what | " + " | ".join(f"{rows:,} rows" for rows in sizes) + " |\n|" + "---|" * (len(sizes) + 1))
    lines = {step: [f"{found[rows]['seconds'][step]:.1f}" for rows in sizes] for step in found[sizes[0]]["seconds"]}
    lines["all, seconds"] = [f"{sum(found[rows]['seconds'].values()):.1f}" for rows in sizes]
    lines["peak memory, GiB"] = [f"{max(found[rows]['peak_gib'].values()):.2f}" for rows in sizes]
    for what in found[sizes[0]]["found"]:
        lines[f"found, {what}"] = ["{:,} of {:,}".format(*found[rows]["found"][what]) for rows in sizes]
    for what in found[sizes[0]]["not planted"]:
        lines[f"set aside as {what}, not planted"] = [f"{found[rows]['not planted'][what]:,}" for rows in sizes]
    for what, cells in lines.items():
        print(f"| {what} | " + " | ".join(cells) + " |")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("part", nargs="?", choices=("contract", "duplicates", "stage"))
    options.add_argument("--rows", type=int, default=1_000_000, help="of the contract's part")
    options.add_argument("--texts", type=int, default=50_000, help="of the duplicates' part")
    options.add_argument(
        "--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="of the stage's part"
    )
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    if given.part != "stage" and not PEERS.exists():
        raise SystemExit(f"{PEERS} is missing; run: make bench-setup")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if given.part in (None, "contract"):
            compare_contracts(folder / "contract", given.rows, given.rounds)
        if given.part in (None, "duplicates"):
            compare_duplicates(folder / "duplicates", given.texts, given.rounds)
        if given.part in (None, "stage"):
            grow(folder / "stage", given.sizes)


if __name__ == "__main__":
    main()
