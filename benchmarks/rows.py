"""Inputs of the validate stage, as large as you like, with planted faults: python -m benchmarks.rows --rows N --out DIR

Writes two artifacts as the collect and the generate stage write them: documents (one a row in ten; one in a hundred is
held out, 10,000 at most) and rows: short messages (benchmarks/texts.py), each with one of eight queues, by two prompts.

Of the generated rows are planted, and written down by row in ``planted.parquet``: 5 % breaches of the contract
``benchmarks/contracts/messages.odcs.yaml``, in equal parts of nine kinds; 0.5 % leaks of held-out texts (a third each:
exact, with a letter changed, and inside a longer text); 10 % near duplicates (a word added or a letter changed, true
similarity of their 5-character shingles at least 0.82); 5 % exact ones, half of them copies of 20 texts alone, as a
teacher that repeats itself writes them.

A million rows take about a minute and a half.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.planted import CHUNK, FIELDS, PLANTED, PROMPTS, QUEUES, TASK, Planter
from benchmarks.texts import Language
from tasks.collect.documents import document_schema
from tasks.core import tables
from tasks.core.artifacts import ArtifactRef, ArtifactStore, StageKey, Summary
from tasks.core.messages import to_messages
from tasks.generate.written_rows import row_schema

ROOT = Path(__file__).resolve().parents[1]
CONTRACT = ROOT / "benchmarks" / "contracts" / "messages.odcs.yaml"
SOURCES = ("desk.csv", "mail.jsonl", "calls.parquet", "web.jsonl")


@dataclass(frozen=True)
class Inputs:
    """What was written.

    Attributes:
        collected, generated: the artifacts.
        planted: how many rows of each kind.
    """

    collected: ArtifactRef
    generated: ArtifactRef
    planted: dict[str, int]


def write_inputs(folder: Path, rows: int, seed: int = 0) -> Inputs:
    """Write both artifacts into an artifact store at ``folder``, and what was planted beside them.

    Args:
        folder: becomes the store.
        rows: collected and generated ones together.
        seed: same seed, same bytes.
    """
    store, language = ArtifactStore(folder), Language.of(seed)
    documents, config = max(rows // 10, 10), {"rows": rows, "seed": seed}
    held_out = language.texts(min(max(rows // 100, 50), 10_000), np.random.default_rng([seed, 1]))
    collected = store.write(
        StageKey("collect", 1, config), lambda out: _write_documents(out, language, documents, held_out, seed)
    )
    counts: Counter[str] = Counter()

    def fill(out: Path) -> Summary:
        planter = Planter(language, held_out.to_pylist(), documents, np.random.default_rng([seed, 2]))
        with (
            pq.ParquetWriter(out / "rows.parquet", row_schema(FIELDS)) as written,
            pq.ParquetWriter(folder / "planted.parquet", PLANTED) as planted,
        ):
            for table, what in planter.chunks(rows - documents):
                written.write_table(table)
                planted.write_table(what)
                kinds = zip(what["planted"].to_pylist(), what["kind"].to_pylist(), strict=True)
                counts.update(f"{one}: {kind}" for one, kind in kinds)
        lost = [_lost(number) for number in range(rows // 50)]
        pq.write_table(
            pa.Table.from_pylist(lost, schema=tables.schema(tables.QUARANTINED["generate"])), out / "quarantine.parquet"
        )
        return Summary(rows - documents + len(lost), rows - documents, len(lost), details={"by_prompt": {}})

    generated = store.write(StageKey("generate", 1, config), fill)
    inputs = Inputs(collected, generated, dict(sorted(counts.items())))
    (folder / "planted.json").write_text(json.dumps(inputs.planted, indent=1), encoding="utf-8")
    return inputs


def read_inputs(folder: Path) -> Inputs:
    """What :func:`write_inputs` wrote."""

    def ref(stage: str) -> ArtifactRef:
        path = next((folder / stage).glob("*/manifest.json")).parent
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        return ArtifactRef(stage, manifest["key"], str(path), manifest["digest"], manifest["summary"]["accepted"])

    planted = json.loads((folder / "planted.json").read_text(encoding="utf-8"))
    return Inputs(ref("collect"), ref("generate"), planted)


def _write_documents(out: Path, language: Language, count: int, held_out: pa.Array, seed: int) -> Summary:
    """The documents that feed prompts and train, and those held out."""
    draw = np.random.default_rng([seed, 3])
    schema = document_schema(FIELDS)
    with pq.ParquetWriter(out / "train.parquet", schema) as train:
        for start in range(0, count, CHUNK):
            texts = language.texts(min(CHUNK, count - start), draw).to_pylist()
            train.write_table(_documents("doc", start, texts, draw, schema))
    pq.write_table(_documents("held", 0, held_out.to_pylist(), draw, schema), out / "holdout.parquet")
    conversations = {"train": count, "holdout": len(held_out)}
    return Summary(count + len(held_out), count + len(held_out), details={"conversations": conversations})


def _documents(name: str, start: int, texts: list[str], draw: np.random.Generator, schema: pa.Schema) -> pa.Table:
    queues, sources = draw.choice(QUEUES, len(texts)), draw.choice(SOURCES, len(texts), p=[0.5, 0.3, 0.15, 0.05])
    rows = [
        {
            "document_id": f"{name}-{start + number:07}",
            "source": source,
            "line": start + number + 1,
            "message": text,
            "queue": queue,
            "messages": to_messages(TASK, {"message": text, "queue": queue}),
        }
        for number, (text, queue, source) in enumerate(zip(texts, queues.tolist(), sources.tolist(), strict=True))
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def _lost(number: int) -> dict[str, Any]:
    """A row that the generate stage rejected."""
    rule = ("truncated: 128 tokens", "missing: message", "judge check_message: score 2, 'unclear'")[number % 3]
    return {
        "row_id": f"lost-{number}",
        "document_id": "doc-0000000",
        "prompt": PROMPTS[number % 2],
        "prompt_digest": PROMPTS[number % 2].ljust(64, "0"),
        "request_id": f"request-lost-{number}",
        "rule": rule,
        "raw": "",
        "attempts": 1,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, required=True)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    inputs = write_inputs(given.out, given.rows, given.seed)
    print(
        json.dumps({"collected": inputs.collected.path, "generated": inputs.generated.path} | inputs.planted, indent=1)
    )


if __name__ == "__main__":
    main()
