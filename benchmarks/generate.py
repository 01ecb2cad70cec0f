"""The same requests through five clients of one vLLM: .venv/bin/python benchmarks/generate.py [--rows N] [--rounds N]

One vLLM serves the seedling. In each round all rows go through every arm, in an order that rotates:

- bare: ``openai.AsyncOpenAI`` with a semaphore, answers kept in a list and thrown away; once by its typed method,
  as its users write it, and once (lean) by its raw route and aiohttp, which take less than half the processor time
  and are what the stage uses;
- this stage: ``GenerateJob.fill``: planning, rendering in its child process, the answer store, parsing, Parquet;
- distilabel: a ``Pipeline`` of ``LoadDataFromDicts`` and ``TextGeneration``;
- data-designer: NeMo Data Designer's ``create`` with one ``LLMTextColumnConfig``.

The prompts, sampling parameters and the most requests in flight are the same; seeds are sent by the bare clients and
the stage alone, since the others have no place for a seed of each row: what a seed costs the server, those who send it
pay. Completed is a row with text that did not run into max_tokens; distilabel and Data Designer do not say how an
answer ended, so theirs are counted by text alone. The start of a Python process and its imports are not counted; what
an arm does after that is, its own worker processes and files among it.

Prints completed rows a second and the medians of the rounds' ratios as a Markdown table. Needs the peers'
environments, which ``make bench-setup`` builds. Takes about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import openai
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.artifacts import ArtifactRef
from tasks.core.config import ChatTask, ModelSource, ServerSettings
from tasks.core.home import Home
from tasks.core.prompts import Prompt, read_prompt
from tasks.core.prompts.rendering import Renderer
from tasks.core.stage import StageContext
from tasks.core.vllm.server import BASE_NAME, Server, serving
from tasks.generate.config import GenerateConfig
from tasks.generate.generate import GenerateJob

ROOT = Path(__file__).resolve().parents[1]
PROMPT = ROOT / "prompts" / "write_message.md"
MESSAGES = ROOT / "deployments" / "recipes" / "data" / "support_messages.csv"
SEEDLING = ModelSource(path=str(ROOT / "seedling" / "model"))
KEY_VARIABLE = "RETUNE_BENCHMARK_KEY"
PEERS = {"distilabel": "distilabel_arm.py", "data-designer": "data_designer_arm.py"}
Parts = Mapping[str, Mapping[str, str]]
Arm = Callable[[list[dict[str, str]], Path], tuple[int, float]]


def render_topics(prompt: Prompt, topics: Sequence[str]) -> dict[str, dict[str, str]]:
    """The system and the user's part of the prompt, by topic."""
    with Renderer() as renderer:
        found = renderer.render(prompt, [{"topic": topic} for topic in topics])
    return {
        topic: {part["role"]: part["content"] for part in one.messages or ()}
        for topic, one in zip(topics, found, strict=True)
    }


def bare_arm(server: Server, prompt: Prompt, parts: Parts, concurrency: int, *, lean: bool) -> Arm:
    """The openai library and a semaphore; lean: by its raw route over aiohttp."""

    def run(documents: list[dict[str, str]], folder: Path) -> tuple[int, float]:
        client_of = openai.DefaultAioHttpClient if lean else openai.DefaultAsyncHttpxClient

        async def ask_all() -> int:
            gate = asyncio.Semaphore(concurrency)
            http = client_of(trust_env=False)
            async with openai.AsyncOpenAI(
                base_url=f"{server.url}/v1", api_key=server.api_key, http_client=http
            ) as client:

                async def ask(number: int, topic: str) -> bool:
                    async with gate:
                        return await (ask_raw if lean else ask_typed)(client, prompt, parts[topic], number)

                return sum(await asyncio.gather(*(ask(n, one["topic"]) for n, one in enumerate(documents))))

        started = time.perf_counter()
        rows = asyncio.run(ask_all())
        return rows, time.perf_counter() - started

    return run


async def ask_typed(client: openai.AsyncOpenAI, prompt: Prompt, parts: Mapping[str, str], seed: int) -> bool:
    """Whether the answer is complete."""
    sampling = prompt.head.sampling
    answer = await client.chat.completions.create(
        model=BASE_NAME,
        messages=[{"role": "system", "content": parts["system"]}, {"role": "user", "content": parts["user"]}],
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        seed=seed,
    )
    return answer.choices[0].finish_reason == "stop" and bool((answer.choices[0].message.content or "").strip())


async def ask_raw(client: openai.AsyncOpenAI, prompt: Prompt, parts: Mapping[str, str], seed: int) -> bool:
    """Whether the answer is complete."""
    sampling = prompt.head.sampling
    body = {
        "model": BASE_NAME,
        "messages": [{"role": role, "content": parts[role]} for role in ("system", "user")],
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": seed,
    }
    answer: Any = await client.post("/chat/completions", body=body, cast_to=object)
    choice = answer["choices"][0]
    return choice["finish_reason"] == "stop" and bool((choice["message"]["content"] or "").strip())


def stage_arm(server: Server, concurrency: int) -> Arm:
    """The whole generate stage, with the running server as its endpoint."""
    os.environ[KEY_VARIABLE] = server.api_key

    def run(documents: list[dict[str, str]], folder: Path) -> tuple[int, float]:
        collected = folder / "collected"
        collected.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(documents), collected / "train.parquet")
        config = GenerateConfig.model_validate(
            {
                "prompts": [str(folder / PROMPT.name)],
                "endpoints": [{"url": f"{server.url}/v1", "model": BASE_NAME, "api_key_env": KEY_VARIABLE}],
                "concurrency": concurrency,
                "attempts": 1,
            }
        )
        text = PROMPT.read_text(encoding="utf-8").replace("rows_per_document: 3\n", "")
        (folder / PROMPT.name).write_text(text, encoding="utf-8")
        ref = ArtifactRef("collect", "benchmark", str(collected), "benchmark", len(documents))
        task = ChatTask(input="message", output="topic")
        job = GenerateJob(config, SEEDLING, task, ref, ("topic",), seed=0)
        out = folder / "out"
        out.mkdir()
        started = time.perf_counter()
        summary = job.fill(out, StageContext(Home(folder / "home"), "benchmark", "key"))
        return summary.accepted, time.perf_counter() - started

    return run


def peer_arm(name: str, server: Server, prompt: Prompt, parts: Parts, concurrency: int) -> Arm:
    """Another generator, in its own environment."""
    python = ROOT / f".venv-bench-{name}" / "bin" / "python"
    if not python.exists():
        raise SystemExit(f"{python} is missing; run: make bench-setup")

    def run(documents: list[dict[str, str]], folder: Path) -> tuple[int, float]:
        folder.mkdir(parents=True, exist_ok=True)
        work = {
            "url": f"{server.url}/v1",
            "api_key": server.api_key,
            "model": BASE_NAME,
            "folder": str(folder / "out"),
            "concurrency": concurrency,
            "sampling": prompt.head.sampling.model_dump(),
            "rows": [parts[one["topic"]] for one in documents],
        }
        (folder / "work.json").write_text(json.dumps(work), encoding="utf-8")
        script = ROOT / "benchmarks" / "arms" / PEERS[name]
        child = subprocess.run(
            [str(python), str(script), str(folder / "work.json")], capture_output=True, text=True, cwd=folder
        )
        if child.returncode:
            raise SystemExit(f"{name} failed:\n{child.stderr[-3000:]}")
        found = json.loads(child.stdout.splitlines()[-1])
        return found["rows"], found["seconds"]

    return run


def report(found: Mapping[str, list[tuple[int, float]]]) -> str:
    """The Markdown table: completed rows, rows a second, and the medians of the rounds' ratios."""
    speeds = {name: [rows / seconds for rows, seconds in runs] for name, runs in found.items()}
    table: list[dict[str, Any]] = []
    for name, runs in speeds.items():
        of_bare = [mine / bare for mine, bare in zip(runs, speeds["bare"], strict=True)]
        stage_over = [stage / mine for stage, mine in zip(speeds["this stage"], runs, strict=True)]
        table.append(
            {
                "arm": name,
                "completed": sum(rows for rows, _ in found[name]),
                "rows a second": f"{statistics.median(runs):.1f}",
                "of bare": f"{statistics.median(of_bare):.2f} ({min(of_bare):.2f} to {max(of_bare):.2f})",
                "this stage over it": f"{statistics.median(stage_over):.2f}",
            }
        )
    columns = list(table[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(str(row[name]) for name in columns) + " |" for row in table)])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=2000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--concurrency", type=int, default=128)
    given = options.parse_args()
    prompt = read_prompt(PROMPT)
    topics = sorted(set(pd.read_csv(MESSAGES)["topic"]))
    parts = render_topics(prompt, topics)
    settings = ServerSettings(dtype="float32", max_model_len=512, cpu_kv_cache_gib=0.25)
    found: dict[str, list[tuple[int, float]]] = {}
    with (
        tempfile.TemporaryDirectory() as scratch,
        serving(SEEDLING, settings, log=Path(scratch) / "vllm.log") as server,
    ):
        arms: dict[str, Arm] = {
            "bare": bare_arm(server, prompt, parts, given.concurrency, lean=False),
            "bare, lean": bare_arm(server, prompt, parts, given.concurrency, lean=True),
            "this stage": stage_arm(server, given.concurrency),
            **{name: peer_arm(name, server, prompt, parts, given.concurrency) for name in PEERS},
        }
        names = list(arms)
        found = {name: [] for name in names}
        arms["bare"]([{"topic": topics[0]}] * 32, Path(scratch))  # the first requests find the server cold
        for number in range(given.rounds):
            documents = [
                {"document_id": f"{number}-{row}", "topic": topics[row % len(topics)]} for row in range(given.rows)
            ]
            turn = number % len(names)
            for name in [*names[turn:], *names[:turn]]:
                rows, seconds = arms[name](documents, Path(scratch) / f"{number}-{name.replace(' ', '-')}")
                found[name].append((rows, seconds))
                print(f"round {number + 1}, {name}: {rows} rows in {seconds:.1f} s", file=sys.stderr, flush=True)
    print(f"\n{given.rounds} rounds of {given.rows} requests, {given.concurrency} in flight\n")
    print(report(found))


if __name__ == "__main__":
    main()
