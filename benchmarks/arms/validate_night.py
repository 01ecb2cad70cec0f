"""One size of benchmarks/validate.py, all three stages: python -m benchmarks.arms.validate_night DIR

DIR holds what benchmarks/rows.py wrote. Prints one JSON line: seconds by stage, and within one by the step that it says
it is at; peak memory (resident, of this process) after each; what became of the rows; and how much of what was planted
was found.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.planted import FIELDS, QUEUES, row_id
from benchmarks.rows import CONTRACT, ROOT, read_inputs
from tasks.core.artifacts import ArtifactRef
from tasks.core.home import Home
from tasks.core.stage import run_stage
from tasks.validate.check_documents import CheckDocumentsJob
from tasks.validate.check_training_set import CheckTrainingSetJob, Publications
from tasks.validate.config import ValidateConfig
from tasks.validate.contracts.rule import ContractContext
from tasks.validate.validate import ValidateJob

SET_ASIDE = {"breach": "quarantine", "leak": "contaminated", "copy": "duplicates"}
CONTEXT = ContractContext(str(ROOT / "seedling" / "model"), ("<|im_start|>", "<|im_end|>", "<|endoftext|>"), QUEUES)


@dataclass
class Watch:
    """Takes the time between one note of progress and the next.

    Attributes:
        steps: seconds by note.
        peaks: peak memory at the end of each.
    """

    steps: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._note, self._started = "", time.perf_counter()

    def note(self, _: float, note: str) -> None:
        """A step begins, and the one before is over."""
        now = time.perf_counter()
        if self._note:
            self.steps[self._note] = self.steps.get(self._note, 0.0) + now - self._started
            self.peaks[self._note] = peak_gib()
        self._note, self._started = note, now


def peak_gib() -> float:
    """Peak resident memory of this process so far."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**20


def what_was_found(folder: Path, validated: Path) -> dict[str, Any]:
    """Of each kind that was planted: how many of them were set aside for it, of how many; and what else was set aside.

    Of a row and its copies all but one have to go; which one stays is decided by their ids.
    """
    planted = pd.read_parquet(folder / "planted.parquet")
    aside = {what: _ids(validated / f"{name}.parquet") for what, name in SET_ASIDE.items()}
    copies = planted[planted["cluster"] >= 0]
    originals = copies.drop_duplicates(["planted", "kind", "cluster"])
    originals = originals.assign(row_id=originals["cluster"].map(row_id))
    members = pd.concat([copies, originals])
    found: dict[str, list[int]] = {}
    for (what, kind), rows in members.groupby(["planted", "kind"]):
        gone = rows["row_id"].isin(aside["copy"]).groupby(rows["cluster"]).sum()
        needed = rows.groupby("cluster").size() - 1
        found[f"{what}: {kind}"] = [int(gone.clip(upper=needed).sum()), int(needed.sum())]
    for (what, kind), rows in planted[planted["cluster"] < 0].groupby(["planted", "kind"]):
        found[f"{what}: {kind}"] = [int(rows["row_id"].isin(aside[str(what)]).sum()), len(rows)]
    meant = {what: {*planted["row_id"][planted["planted"] == what]} for what in ("breach", "leak")}
    meant["copy"] = {*members["row_id"]}
    return {"found": found, "not planted": {what: len(ids - meant[what]) for what, ids in aside.items()}}


def _ids(path: Path) -> set[str]:
    return set(pd.read_parquet(path, columns=["row_id"])["row_id"])


def run(folder: Path, home: Home) -> dict[str, Any]:
    """Run the three stages, one after the other."""
    inputs = read_inputs(folder)
    watch = Watch()

    def timed(stage: str, job: Any) -> ArtifactRef:
        watch.note(0, stage)
        return run_stage(job, home, "benchmark", lambda share, note: watch.note(share, f"{stage}: {note}")).ref

    contracts = {"documents": "raw_documents", "training_set": "training_set", "evaluations": "evaluation_set"}
    paths = {at: str(ROOT / "data_contracts" / f"{name}.odcs.yaml") for at, name in contracts.items()}
    config = ValidateConfig.model_validate({"contracts": {**paths, "rows": str(CONTRACT)}})
    documents = timed("check_documents", CheckDocumentsJob(config, inputs.collected, FIELDS, CONTEXT))
    validated = timed("validate", ValidateJob(config, inputs.collected, documents, inputs.generated, FIELDS, CONTEXT))
    checked = CheckTrainingSetJob(config, validated, Publications(), FIELDS, CONTEXT)
    timed("check_training_set", checked)
    watch.note(1, "")
    summary = validated.manifest()["summary"]
    counts = {name: summary[name] for name in ("rows_in", "accepted", "quarantined", "duplicates", "contaminated")}
    found = what_was_found(folder, validated.folder)
    return {"seconds": watch.steps, "peak_gib": watch.peaks, "counts": counts, **found}


def main() -> None:
    folder = Path(sys.argv[1])
    with tempfile.TemporaryDirectory(dir=folder) as home:
        print(json.dumps(run(folder, Home(Path(home)))))


if __name__ == "__main__":
    main()
