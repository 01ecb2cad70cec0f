"""Turn a candidate that passed the gate into a servable folder: adapter, merged model, card, lineage."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tasks.core import tables
from tasks.core.artifacts import ArtifactRef, StageKey, Summary
from tasks.core.config import ModelSource
from tasks.core.details import EvaluateDetails, Merge, PublishDetails, TrainDetails
from tasks.core.files import digest_of, folder_digests, write_json, write_text
from tasks.core.merging.trained import ADAPTER, MERGED, MergeSettings, Trained, merged, trained_in
from tasks.core.models import model_digest
from tasks.core.public_models import describe_origin, origin_of
from tasks.core.stage import StageContext
from tasks.publish.card import model_card
from tasks.publish.config import PublishConfig
from tasks.publish.history import TRAINING_PROFILE
from tasks.publish.registry import Published, Registry

VERSION = 4
PUBLISH = "publish"
EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class PublishJob:
    """Everything the stage reads.

    ``model`` is the base; ``training`` how the adapter was trained: ``method``, ``quant_type``,
    ``double_quantisation``; ``checks`` are the artifacts of the checks of documents and training set, for the lineage.
    """

    config: PublishConfig
    recipe: str
    model: ModelSource
    training: Mapping[str, Any]
    collected: ArtifactRef
    generated: ArtifactRef | None
    validated: ArtifactRef
    trained: ArtifactRef
    evaluated: ArtifactRef
    checks: tuple[ArtifactRef, ...] = ()

    @property
    def evaluation(self) -> EvaluateDetails:
        return EvaluateDetails.model_validate_json((self.evaluated.folder / EVALUATION).read_bytes())

    def key(self) -> StageKey:
        return StageKey(
            "publish",
            VERSION,
            {"publish": self.config.model_dump(mode="json", exclude={"timeout_minutes"}), "training": self.training},
            inputs=[self.validated, self.trained, self.evaluated],
            files={"model": model_digest(self.model)},
            libraries=["torch", "transformers", "peft", "bitsandbytes"],
        )

    def fill(self, folder: Path, context: StageContext) -> Summary:
        """Write the adapter, evaluation, lineage, the training set's profile, the card and, if it passed, ``merged/``.

        The profile is copied so that later training sets can be compared even if the validate artifact is gone.
        """
        evaluation = self.evaluation
        trained = trained_in(self.trained.folder)
        if trained.form != "model":
            shutil.copytree(trained.folder, folder / ADAPTER)
        shutil.copyfile(self.evaluated.folder / EVALUATION, folder / EVALUATION)
        shutil.copyfile(self.validated.folder / "profile.json", folder / TRAINING_PROFILE)
        lineage = self.lineage()
        write_json(folder / "lineage.json", lineage)
        passed = int(evaluation.decision == PUBLISH)
        merge = Merge(**self._merge(trained, folder, context)) if passed else None
        details = PublishDetails(decision=evaluation.decision, reason=evaluation.reason, merge=merge)
        training = TrainDetails(**{**self.training, **self.trained.manifest()["summary"]["details"]})
        write_text(folder / "README.md", model_card(self.config, self.recipe, evaluation, training, lineage, merge))
        return Summary(rows_in=1, accepted=passed, quarantined=1 - passed, details=details)

    def _merge(self, trained: Trained, folder: Path, context: StageContext) -> dict[str, Any]:
        return merged(
            trained,
            self.model,
            MergeSettings(**self.training, dtype=self.config.dtype),
            out=folder / MERGED,
            work=context.work_folder("publish"),
            log=context.log("merge"),
            timeout_s=self.config.timeout_minutes * 60,
        )

    def lineage(self) -> dict[str, Any]:
        """From the adapter back to prompts and documents: artifacts, prompt digests, document ids, teachers.

        ``initial_adapter`` is the version that the training continued from and its digest, or None.
        """
        columns = ["document_id", "prompt", "prompt_digest", "teacher", "teacher_revision", "run_id"]
        rows = pq.read_table(self.validated.folder / tables.TRAINING_SET, columns=columns).to_pandas()
        prompts = rows[rows["prompt"] != ""].groupby(["prompt", "prompt_digest"]).size()
        teachers = rows[rows["teacher"] != ""].groupby(["teacher", "teacher_revision"]).size()
        refs = (self.collected, self.generated, self.validated, *self.checks, self.trained, self.evaluated)
        initial = self.trained.details(TrainDetails).initial_adapter
        origin = origin_of(Path(self.model.path)) if self.model.is_local else None
        name = Path(self.model.path).name if self.model.is_local else self.model.path
        return {
            "recipe": self.recipe,
            "method": self.training["method"],
            "initial_adapter": initial.model_dump() if initial else None,
            "base": {
                "model": origin["repository"] if origin else name,
                **({"origin": describe_origin(origin)} if origin else {}),
                "revision": self.model.revision,
                "digest": model_digest(self.model),
            },
            "artifacts": [{**asdict(ref), "path": f"{ref.stage}/{ref.key}"} for ref in refs if ref is not None],
            "sources": self.collected.manifest()["determinants"]["files"],
            "prompts": [{"prompt": p, "digest": d, "rows": int(n)} for (p, d), n in prompts.items()],
            "teachers": [{"teacher": t, "revision": r, "rows": int(n)} for (t, r), n in teachers.items()],
            "documents": sorted(set(rows["document_id"])),
            "runs": sorted(set(rows["run_id"]) - {""}),
        }


def publish(job: PublishJob, ref: ArtifactRef, registry: Registry) -> tuple[Published, bool]:
    """Register the artifact and, if it passed the gate, make it the champion: the last act of a night.

    Returns the version, and whether this call changed the champion. An adapter that was champion before, under any
    version, is not promoted again: it was replaced or rolled back.
    """
    known, evaluation = registry.promoted(job.trained.digest), job.evaluation
    passed, rival = evaluation.decision == PUBLISH, evaluation.against_champion
    published = registry.register(
        ref.folder,
        key=ref.key,
        trained=job.trained.digest,
        adapter=adapter_digest(trained_in(job.trained.folder).folder),
        method=job.training["method"],
        run=job.trained.details(TrainDetails).mlflow_run_id or "",
        rejected_against=rival.version if rival and not passed else "",
    )
    if not passed or (known is not None and known.version != published.version):
        return published, False
    return published, registry.promote(published)


def adapter_digest(folder: Path) -> str:
    """SHA-256 over the digests of the files of an adapter, or of a fully trained model."""
    return digest_of(folder_digests(folder))
