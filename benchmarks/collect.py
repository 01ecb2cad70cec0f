"""A million rows through the collect stage, beside plain loaders: .venv/bin/python benchmarks/collect.py [--rows N]

Each arm runs in a process of its own, so that its peak memory is its own; the arms take turns, and each ratio is that
of medians. The arms do different amounts of work, which the table says: pandas and ``datasets`` only load the file;
the stage also checks every row, finds its form, looks for personal data, secrets and control tokens, finds copies,
divides the holdout, and writes Parquet.

Prints rows a second and peak memory (of the process, resident) as a Markdown table. Takes about ten minutes.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ARMS = {
    "pandas.read_json": "loads the file",
    "datasets.load_dataset": "loads the file into an Arrow cache",
    "this stage": "checked documents, hygiene, copies, holdout, Parquet",
}
WORDS = ROOT / "deployments" / "recipes" / "data" / "support_messages.csv"


def write_rows(path: Path, rows: int) -> None:
    """JSONL of short messages: words of the embedded recipe's own, about 25 to a row; one row in 50 is a copy."""
    words = WORDS.read_text(encoding="utf-8").replace(",", " ").split()
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        line = ""
        for number in range(rows):
            if number % 50 or not line:
                text = " ".join(draw.choices(words, k=25))
                line = json.dumps({"text": f"{text} {number}", "answer": draw.choice(words)})
            file.write(line + "\n")


def run_arm(name: str, source: Path, folder: Path) -> int:
    """Load the source; returns how many rows came out."""
    if name == "pandas.read_json":
        import pandas as pd

        return len(pd.read_json(source, lines=True))
    if name == "datasets.load_dataset":
        import datasets

        return len(datasets.load_dataset("json", data_files=str(source), split="train", cache_dir=str(folder)))
    from tasks.collect.collect import CollectJob
    from tasks.collect.config import CollectConfig
    from tasks.core.artifacts import ArtifactStore
    from tasks.core.config import ChatTask, ModelSource
    from tasks.core.control_tokens import control_tokens
    from tasks.core.home import Home
    from tasks.core.stage import StageContext

    config = CollectConfig.model_validate(
        {"sources": [{"path": str(source)}], "columns": {"text": "text", "answer": "answer"}}
    )
    home = Home(folder)
    tokens = control_tokens(ModelSource(path=str(ROOT / "seedling" / "model")))
    job = CollectJob(config, ChatTask(input="text", output="answer"), tokens, "benchmark", home)
    key = job.key()
    ref = ArtifactStore(home.artifacts).write(key, lambda out: job.fill(out, StageContext(home, "run", key.hex)))
    return int(ref.manifest()["summary"]["rows_in"])


def measure(name: str, source: Path) -> dict[str, float]:
    """Run an arm in a child process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--arm", name, "--source", str(source), "--folder", folder]
        child = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(child.stdout.splitlines()[-1])
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    options.add_argument("--source", type=Path, help=argparse.SUPPRESS)
    options.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.arm:
        started = time.perf_counter()
        rows = run_arm(given.arm, given.source, given.folder)
        seconds = time.perf_counter() - started
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        peak = int(status.partition("VmHWM:")[2].split()[0]) / 2**20
        print(json.dumps({"rows": rows, "seconds": seconds, "peak_gib": peak}))
        return
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "rows.jsonl"
        write_rows(source, given.rows)
        print(f"{given.rows:,} rows, {source.stat().st_size / 2**20:.0f} MiB of JSONL, {given.rounds} rounds\n")
        found: dict[str, list[dict[str, float]]] = {name: [] for name in ARMS}
        for _ in range(given.rounds):
            for name in ARMS:
                found[name].append(measure(name, source))
    print("| arm | what it does | rows a second | of pandas | peak GiB |\n|---|---|---|---|---|")
    speeds = {name: statistics.median(one["rows"] / one["seconds"] for one in runs) for name, runs in found.items()}
    for name, what in ARMS.items():
        peak = max(one["peak_gib"] for one in found[name])
        ratio = speeds[name] / speeds["pandas.read_json"]
        print(f"| {name} | {what} | {speeds[name]:,.0f} | {ratio:.2f} | {peak:.2f} |")


if __name__ == "__main__":
    main()
