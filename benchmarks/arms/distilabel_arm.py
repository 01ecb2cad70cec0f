"""One round of benchmarks/generate.py through distilabel: python distilabel_arm.py work.json

Reads the server, the sampling and the prompts from work.json, and prints one JSON line: completed rows, and the
seconds that ``Pipeline.run`` took, the start of its worker processes among them.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration


def main() -> None:
    work = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sampling = work["sampling"]
    with Pipeline(name="benchmark", cache_dir=work["folder"]) as pipeline:
        load = LoadDataFromDicts(
            data=[{"instruction": row["user"], "system_prompt": row["system"]} for row in work["rows"]],
            batch_size=work["concurrency"],
        )
        write = TextGeneration(
            llm=OpenAILLM(
                model=work["model"],
                base_url=work["url"],
                api_key=work["api_key"],
                generation_kwargs={
                    "max_new_tokens": sampling["max_tokens"],
                    "temperature": sampling["temperature"],
                    "top_p": sampling["top_p"],
                },
            ),
            input_batch_size=work["concurrency"],
        )
        load >> write
    started = time.perf_counter()
    rows = pipeline.run(use_cache=False)["default"]["train"]
    seconds = time.perf_counter() - started
    print(json.dumps({"rows": sum(bool(row["generation"]) for row in rows), "seconds": seconds}))


if __name__ == "__main__":
    main()
