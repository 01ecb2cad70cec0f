"""Training sets as small tables, and what they look like."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from tasks.core.artifacts import ArtifactRef
from tasks.core.config import ChatTask
from tasks.core.messages import MESSAGES, to_messages
from tasks.core.tables import LINEAGE
from tasks.validate.drift.profile import PROFILE, Counts, Lengths, Profile, profile
from tasks.validate.rows import write_training_set

VOCABULARY = (
    "please card lost account balance wire transfer flight ticket late table booked oil tyre pay slip bonus rent bill "
    "credit score limit loan open close money sent euro dollar bank desk water light phone order return ship late why "
    "where when morning evening today never always again still waiting thanks hello need want could would should"
)
WORDS = tuple(VOCABULARY.split())
LABELS = ("cards", "bills", "loans", "trips")


def sentence(rng: random.Random, words: Sequence[str] = WORDS, length: int = 10) -> str:
    """Words drawn at random, so many or a few more or less."""
    return " ".join(rng.choice(words) for _ in range(max(1, round(rng.gauss(length, length / 4)))))


def training_rows(
    rows: int,
    seed: int,
    *,
    labels: Sequence[str] = LABELS,
    weights: Sequence[float] | None = None,
    length: int = 10,
    words: Sequence[str] = WORDS,
) -> list[tuple[str, str]]:
    """What user and assistant say in rows of a generator that draws words and labels."""
    rng = random.Random(seed)
    return [(sentence(rng, words, length), rng.choices(labels, weights)[0]) for _ in range(rows)]


def table(rows: Sequence[tuple[str | None, str | None]], source: str = "a.csv", prompt: str = "write") -> pa.Table:
    """Rows of a generator as the validate stage has them."""
    texts = {
        "user_text": [user for user, _ in rows],
        "assistant_text": [assistant for _, assistant in rows],
        "origin": ["generated"] * len(rows),
        "source": [source] * len(rows),
        "prompt": [prompt] * len(rows),
    }
    return pa.table({name: pa.array(values, pa.large_string()) for name, values in texts.items()})


def counts(**names: int) -> Counts:
    return Counts(rows=sum(names.values()), names=names)


def made_up(**changes: object) -> Profile:
    """A profile that says what a test needs."""
    lengths = Lengths(characters={"p50": 40}, words={"p50": 8}, bins=counts(**{"10": 1_000}))
    some = counts(a=500, b=500)
    measured = {"rows": 1_000, "user": lengths, "assistant": lengths, "answers": some, "origins": some}
    measured |= {"sources": some, "prompts": some, "sample": 1_000, "languages": counts(en=1_000), "refusals": 10}
    measured |= {"self_similarity": 0.05, "distinct": {256: 0.9, 512: 0.8}, "diversity": {}}
    return Profile.model_validate(measured | changes)


def write_validated(folder: Path, rows: Sequence[tuple[str, str]], digest: str, **columns: str) -> ArtifactRef:
    """An artifact of the validate stage with these rows as its training set: the table and its profile."""
    folder.mkdir(parents=True)
    written = table(rows, **columns)
    names = {name: None for name in (*LINEAGE, "tools") if name not in written.column_names}
    lineage = {name: pa.nulls(len(rows), pa.int64() if name == "seed" else pa.large_string()) for name in names}
    whole = pa.table({**{name: written[name] for name in written.column_names}, **lineage})
    ids = pa.array([f"r{number}" for number in range(len(rows))], pa.large_string())
    messages = pa.array([to_messages(ChatTask(), {"input": user, "output": said}) for user, said in rows], MESSAGES)
    for name, values in (("row_id", ids), ("document_id", ids)):
        whole = whole.set_column(whole.column_names.index(name), name, values)
    write_training_set(folder / "training_set.parquet", whole.append_column("messages", messages), ())
    (folder / PROFILE).write_text(profile(written, 0).model_dump_json(), encoding="utf-8")
    return ArtifactRef("validate", digest, str(folder), digest, len(rows))
