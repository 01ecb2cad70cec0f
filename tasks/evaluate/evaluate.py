"""The holdout answered by base, candidate and champion, scored, compared and judged."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.core import tables
from tasks.core.answer_store import AnswerStore
from tasks.core.artifacts import REPORT_FOLDER, ArtifactRef, StageKey, Summary
from tasks.core.base_model import load_config
from tasks.core.config import ChatTask, ModelSource
from tasks.core.details import EvaluateDetails
from tasks.core.errors import ContractViolation
from tasks.core.files import read_json, write_json, write_text
from tasks.core.merging.trained import TOKENS, MergeSettings, Trained, merged, trained_in
from tasks.core.messages import for_server
from tasks.core.models import model_digest, model_family
from tasks.core.progress import say
from tasks.core.stage import StageContext
from tasks.core.vllm.server import vllm_version
from tasks.evaluate.answers import READINGS, answer_table, kept_answers, probe_table, read_conversations, refused_rows
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.curve import CURVE_PICTURE, Smaller, draw_curve, learning_curve, write_curve
from tasks.evaluate.decision import decide
from tasks.evaluate.few_shot import draw_examples, with_examples
from tasks.evaluate.inference import Contestant, Question, collect_replies
from tasks.evaluate.memory import Memory
from tasks.evaluate.report import evaluation_report
from tasks.evaluate.statistics import mean_interval, paired_difference

VERSION = 2
MODELS = "models"
NOT_IN_KEY: dict[str, Any] = {
    "timeout_minutes": True,
    "concurrency": True,
    "server": {"start_timeout_s", "gpu_memory_utilization", "cpu_kv_cache_gib"},
}


@dataclass(frozen=True)
class Rival:
    """The champion to beat: a version of the registered model ``name``.

    ``folder`` is of its adapter (PEFT), or of the whole model that was published if ``is_whole``: the adapter cannot be
    served beside the base. ``digest`` is of the files of the adapter, or of the model that was trained.
    """

    name: str
    version: str
    folder: str
    digest: str
    is_whole: bool = False


@dataclass(frozen=True)
class EvaluateJob:
    """Everything the stage reads.

    Attributes:
        collected, trained: the artifacts with the holdout, and with the candidate's adapter or model.
        smaller: models that learned from parts of the training set, for the learning curve; in the order of their size.
        replay: sources trained on against forgetting, not for the task: their held-out documents are not asked.
        merging: how a candidate that cannot be served beside the base becomes a whole model, as when it is published.
    """

    config: EvaluateConfig
    model: ModelSource
    task: ChatTask
    collected: ArtifactRef
    trained: ArtifactRef
    champion: Rival | None
    smaller: tuple[Smaller, ...] = ()
    replay: tuple[str, ...] = ()
    merging: MergeSettings | None = None

    def key(self) -> StageKey:
        return StageKey(
            stage="evaluate",
            version=VERSION,
            config={
                "evaluate": self.config.model_dump(mode="json", exclude=NOT_IN_KEY),
                "task": self.task,
                "vllm": vllm_version(),
                **({"fractions": [one.fraction for one in self.smaller]} if self.smaller else {}),
                **({"replay": sorted(self.replay)} if self.replay else {}),
                **({"merging": asdict(self.merging)} if self.merging and self._is_merged else {}),
            },
            inputs=(self.collected, self.trained, *(one.trained for one in self.smaller)),
            files={"model": model_digest(self.model), "champion": self.champion.digest if self.champion else ""},
            libraries=("scipy",),
        )

    def fill(self, folder: Path, context: StageContext) -> Summary:
        """Write the evaluation, the answers, the probes, the refused rows, the learning curve and the report.

        Answers are kept in the work folder as they arrive: another attempt, also of another night, goes on from there.

        Raises ContractViolation: the holdout is empty, or no row of it was answered by every model; ServerStartError,
        ServerError, EvaluationError: vLLM did not start, or stopped answering; ModelError, MachineError: a candidate
        could not be made a whole model.
        """
        holdout, unasked = read_conversations(self.collected.folder / tables.HOLDOUT, self.config.max_rows, self.replay)
        questions = [
            Question(for_server(messages[:-1]), tools)
            for messages, tools in zip(holdout["messages"], holdout["tools"].tolist(), strict=True)
        ]
        work = context.work_folder("evaluate")
        try:
            contestants = self._contestants(work / MODELS, context)
            log = context.log("vllm-evaluate")
            with AnswerStore.open(work / "answers.sqlite") as store:
                memory = Memory(store, context.key, context.run_id)
                shown = self._examples()
                with_them = [with_examples(question, shown) for question in questions] if shown else []
                replies = collect_replies(
                    self._asking, self.model, self.task, contestants, questions, with_them, memory, log
                )
        finally:
            shutil.rmtree(work / MODELS, ignore_errors=True)
        refused = refused_rows(holdout, replies)
        answers = answer_table(holdout, replies, self.config.metric)
        answers = answers[~answers["document_id"].isin(refused["document_id"])].reset_index(drop=True)
        refused.to_parquet(folder / tables.QUARANTINE, index=False)
        if answers.empty:
            context.keep_quarantine("evaluate", folder)
            raise ContractViolation(
                f"No row of the holdout was answered by every model ({len(holdout)} rows, {len(refused)} refused)",
                where=str(self.collected.folder / tables.HOLDOUT),
                remedy="collect more documents, or raise evaluate.server.max_model_len if the rows are too long",
            )
        evaluation = {
            **compare(answers, self.config, self.champion),
            **learning_curve(answers, self.smaller, self.trained, self.config),
            **({"replay_unasked": unasked} if self.replay else {}),
        }
        probes = probe_table(self.config.probes, replies)
        evaluation |= kept_answers(probes, self.task.labels)
        answers.to_parquet(folder / tables.ANSWERS, index=False)
        write_json(folder / "probes.json", probes)
        write_json(folder / "evaluation.json", evaluation)
        if self.smaller:
            write_curve(folder / "curve.csv", evaluation["curve"])
            draw_curve(evaluation, folder / REPORT_FOLDER / CURVE_PICTURE)
        report = evaluation_report(evaluation, answers, probes, self.task.labels)
        write_text(folder / REPORT_FOLDER / "evaluation.md", report)
        shutil.rmtree(work, ignore_errors=True)
        return Summary(len(holdout), len(answers), len(refused), details=EvaluateDetails(**evaluation, probes=probes))

    def _examples(self) -> list[Any]:
        count, documents = self.config.few_shot, self.collected.folder / tables.TRAIN
        return draw_examples(documents, count, self.task.labels, self.replay) if count else []

    @property
    def _asking(self) -> EvaluateConfig:
        """The settings with room for the reasoning that the candidate was trained to write before an answer."""
        file = self.trained.folder / TOKENS
        thought = read_json(file).get("thought_tokens", 0) if file.is_file() else 0
        return self.config.model_copy(update={"max_tokens": self.config.max_tokens + thought})

    @property
    def _is_merged(self) -> bool:
        trained = trained_in(self.trained.folder)
        return trained.form != "model" and not trained.is_served_beside(self._family)

    @cached_property
    def _family(self) -> str | None:
        """The base's ``model_type``; a hub's model is looked up there."""
        return model_family(self.model) if self.model.is_local else load_config(self.model).model_type

    def _contestants(self, work: Path, context: StageContext) -> list[Contestant]:
        champion = self.champion
        rivals = [Contestant("champion", Path(champion.folder), champion.is_whole)] if champion else []
        trained = [("candidate", self.trained), *((one.name, one.trained) for one in self.smaller)]
        candidate, *smaller = (
            self._servable(name, trained_in(ref.folder), work / name, context) for name, ref in trained
        )
        return [candidate, *rivals, *(replace(one, is_probed=False) for one in smaller)]

    def _servable(self, name: str, trained: Trained, work: Path, context: StageContext) -> Contestant:
        """What was trained in a form that vLLM serves; a whole model is made in ``work`` where there is none yet."""
        if trained.form == "model" or trained.is_served_beside(self._family):
            return Contestant(name, trained.folder, is_whole=trained.form == "model")
        assert self.merging is not None
        say(f"  vLLM serves no {trained.form} of this kind beside the base: making a whole model of {name}")
        merged(
            trained,
            self.model,
            self.merging,
            out=work / "model",
            work=work / "process",
            log=context.log(f"merge-{name}"),
            timeout_s=self.config.timeout_minutes * 60,
        )
        return Contestant(name, work / "model", is_whole=True)


def compare(answers: pd.DataFrame, config: EvaluateConfig, champion: Rival | None) -> dict[str, Any]:
    """The content of evaluation.json: rates, intervals, paired differences and the decision; rates are fractions."""
    metric, confidence = config.metric, config.confidence
    scores = {
        reading: [float(score) for score in answers[f"{reading}_score"]]
        for reading in READINGS
        if answers[f"{reading}_score"].notna().all()
    }
    intervals = {reading: list(mean_interval(metric, found, confidence)) for reading, found in scores.items()}
    over_base = paired_difference(metric, scores["candidate"], scores["base"], confidence)
    over_champion = against = None
    if champion:
        over_champion = paired_difference(metric, scores["candidate"], scores["champion"], confidence)
        against = {**asdict(over_champion), "name": champion.name, "version": champion.version}
    return {
        "metric": metric,
        "n": len(answers),
        **{reading: sum(scores[reading]) / len(answers) if reading in scores else None for reading in READINGS},
        "intervals": {reading: intervals.get(reading) for reading in READINGS},
        **asdict(over_base),
        "against_champion": against,
        **asdict(decide(len(answers), over_base, over_champion, config.gate)),
        "confidence": confidence,
    }
