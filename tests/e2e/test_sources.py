"""Whole nights from every kind of source at once: a folder of mixed files, PostgreSQL, S3, and demos in known forms."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from tasks.core.home import PROJECT_ROOT
from tests.e2e.conftest import Retune
from tests.object_store import client_of, object_store
from tests.postgres import PASSWORD, Postgres, postgres

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.families]

DATA = PROJECT_ROOT.parent / "shared" / "data"
SERVER = {"dtype": "float32", "max_model_len": 512, "cpu_kv_cache_gib": 0.25}
SELF_INSTRUCT = {
    "instruction": "instruction",
    "input": "instances.0.input",
    "output": "instances.0.output",
    "is_class": "is_classification",
}
PROMPT = "self_instruct_small"
WRITTEN = 12


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres() as server:
        server.execute(
            "CREATE TABLE faq (id int PRIMARY KEY, question text, answer text, updated_at timestamptz)",
            "INSERT INTO faq SELECT i, 'Double of ' || i || '?', 'It is ' || 2 * i,"
            " now() - (100 - i) * interval '1 hour' FROM generate_series(1, 40) i",
        )
        yield server


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with object_store() as url:
        client = client_of(url)
        client.create_bucket(Bucket="faq")
        for day in (1, 2):
            rows = [{"prompt": f"Day {day}, question {n}?", "completion": f"Answer {n}."} for n in range(10)]
            body = "".join(json.dumps(row) + "\n" for row in rows).encode()
            client.put_object(Bucket="faq", Key=f"days/{day}.jsonl.gz", Body=gzip.compress(body))
        yield url


def write_folder(folder: Path) -> None:
    """One file of each format, and rows that nobody can use."""
    folder.mkdir()
    rows = "".join(f"add {n},{n} {n},{2 * n}\n" for n in range(10))
    (folder / "alpaca.csv").write_text("instruction,input,output\n" + rows, encoding="utf-8")
    turns = [{"role": "user", "content": "say it"}, {"role": "assistant", "content": "it"}]
    with gzip.open(folder / "chat.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(json.dumps({"messages": turns}) + '\n{"messages": [\n')
    (folder / "passage.md").write_text("# Cards\n\nCards are sent by post.\n", encoding="utf-8")
    (folder / "photo.jpg").write_bytes(b"\xff\xd8")


def write_recipe(folder: Path, database: Postgres, bucket: str) -> str:
    demos: list[dict[str, Any]] = [
        {"path": str(DATA / "alpaca_demo" / "alpaca_en_demo.json"), "form": "alpaca"},
        {"path": str(DATA / "sharegpt_demo" / "glaive_toolcall_en_demo.json"), "form": "sharegpt"},
        {"path": str(DATA / "self_instruct" / "seed_tasks.jsonl"), "columns": SELF_INSTRUCT, "id_column": "id"},
    ]
    recipe: dict[str, Any] = {
        "name": "everything",
        "seed": 7,
        "model": {"path": str(PROJECT_ROOT / "seedling" / "model")},
        "task": {"input": "instruction", "context": "input", "output": "output"},
        "collect": {
            "sources": [
                {"path": "folder"},
                {
                    "sql": database.url,
                    "query": "SELECT id, question, answer, updated_at FROM faq",
                    "watermark": "updated_at",
                    "columns": {"instruction": "question", "output": "answer"},
                    "id_column": "id",
                },
                {"object": "s3://faq/days/", "options": {"endpoint_url": bucket, "key": "${S3_KEY}", "secret": "y"}},
                *(demos if DATA.is_dir() else []),
            ]
        },
        "validate": {"contracts": {"rows": "chat_examples"}, "minimum_rows": 5},
        "train": {"rank": 8, "alpha": 16, "batch_size": 4, "accumulation_steps": 1, "max_steps": 8, "max_length": 512},
        "evaluate": {"metric": "token_f1", "max_rows": 8, "probes": [], "server": SERVER, "gate": {"minimum_rows": 1}},
        "publish": {"name": "everything", "dtype": "float32"},
    }
    if DATA.is_dir():
        recipe["generate"] = {
            "prompts": [f"{PROMPT}.md"],
            "attempts": 3,
            "failure_limit": 1.0,
            "limits": {"rows": WRITTEN},
            "server": SERVER,
        }
    path = folder / "everything.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return str(path)


def write_prompt(folder: Path) -> None:
    """The shipped Self-Instruct template, small enough for the seedling's 512 tokens of context, and for seed tasks.

    Its strings have a length, so that every answer ends before ``max_tokens``, whatever the seedling writes. It asks
    about documents with the field ``is_class``, and shows such, which seed tasks alone have.
    """
    text = (PROJECT_ROOT / "prompts" / "self_instruct.md").read_text(encoding="utf-8")
    smaller = {
        "name: self_instruct": f"name: {PROMPT}",
        "variables:": "variables:\n  is_class: {from: document}",
        "count: 6": "count: 1, same: is_class",
        "maxItems: 4": "maxItems: 1",
        "minLength: 10": "minLength: 10, maxLength: 40",
        "input: {type: string}": "input: {type: string, maxLength: 20}",
        "minLength: 1}": "minLength: 1, maxLength: 40}",
        "max_tokens: 1536": "max_tokens: 160",
        "rows_per_document: 4": "rows_per_document: 1",
        "Here are {{ seeds | length }} tasks:": "Here is a task (classification: {{ is_class }}):",
    }
    for old, new in smaller.items():
        assert old in text, old
        text = text.replace(old, new)
    (folder / f"{PROMPT}.md").write_text(text, encoding="utf-8")
    (folder / "partials").symlink_to(PROJECT_ROOT / "prompts" / "partials")


def documents(record: dict[str, Any]) -> list[dict[str, Any]]:
    folder = Path(record["stages"]["collect"]["path"])
    return [row for split in ("train", "holdout") for row in pq.read_table(folder / f"{split}.parquet").to_pylist()]


def test_a_night_runs_from_every_source_and_the_next_one_reads_only_what_is_new(
    retune: Retune, database: Postgres, bucket: str, tmp_path: Path
) -> None:
    write_folder(tmp_path / "folder")
    write_prompt(tmp_path)
    recipe = write_recipe(tmp_path, database, bucket)
    retune.settings |= {"SHOP_PASSWORD": PASSWORD, "S3_KEY": "x"}
    done = retune.call("run", "--recipe", recipe)
    assert done.returncode == 0, done.stderr
    first = retune.report()
    assert first["status"] in ("published", "rejected")
    found = documents(first)
    by_source = {row["source"] for row in found}
    assert {"alpaca.csv", "chat.jsonl.gz", "passage.md"} <= by_source
    assert sum(row["source"].endswith(".jsonl.gz") and "day" in str(row["user"]).lower() for row in found) == 20
    assert sum(str(row["instruction"]).startswith("Double of") for row in found) == 40
    assert first["stages"]["collect"]["rules"] == {"unreadable": 1}
    assert any("photo.jpg" in note for note in first["stages"]["collect"]["notes"])
    if DATA.is_dir():
        tools = [row for row in found if row["source"] == "glaive_toolcall_en_demo.json" and row["tools"]]
        assert any(turn["tool_calls"] for row in tools for turn in row["messages"])
        assert any(turn["role"] == "tool" for row in tools for turn in row["messages"])
        assert sum(row["source"] == "seed_tasks.jsonl" for row in found) == 175
        written = pq.read_table(Path(first["stages"]["generate"]["path"]) / "rows.parquet").to_pylist()
        seeds = {row["document_id"] for row in found if row["source"] == "seed_tasks.jsonl"}
        assert len(written) == WRITTEN and {row["prompt"] for row in written} == {PROMPT}
        assert {row["document_id"] for row in written} <= seeds

    database.execute(
        "INSERT INTO faq VALUES (41, 'Double of 41?', 'It is 82', now())",
        "UPDATE faq SET answer = 'It is four', updated_at = now() WHERE id = 2",
        "DELETE FROM faq WHERE id = 1",
    )
    done = retune.call("run", "--recipe", recipe)
    assert done.returncode == 0, done.stderr
    second = retune.report()
    assert "documents new 1, changed 1, gone 0" in second["changes"]
    faq = {row["document_id"]: row for row in documents(second) if str(row["instruction"]).startswith("Double of")}
    assert len(faq) == 41 and faq["2"]["output"] == "It is four" and faq["41"]["output"] == "It is 82"
