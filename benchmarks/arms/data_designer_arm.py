"""One round of benchmarks/generate.py through NeMo Data Designer: python data_designer_arm.py work.json

Reads the server, the sampling and the prompts from work.json, and prints one JSON line: completed rows, and the
seconds that ``DataDesigner.create`` took.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import data_designer.config as dd
import pandas as pd
from data_designer.interface import DataDesigner


def main() -> None:
    work = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sampling = work["sampling"]
    provider = dd.ModelProvider(name="local", endpoint=work["url"], api_key=work["api_key"])
    model = dd.ModelConfig(
        alias="teacher",
        model=work["model"],
        provider="local",
        skip_health_check=True,
        inference_parameters=dd.ChatCompletionInferenceParams(
            max_parallel_requests=work["concurrency"],
            temperature=sampling["temperature"],
            top_p=sampling["top_p"],
            max_tokens=sampling["max_tokens"],
        ),
    )
    builder = dd.DataDesignerConfigBuilder(model_configs=[model])
    builder.with_seed_dataset(dd.DataFrameSeedSource(df=pd.DataFrame(work["rows"])))
    builder.add_column(
        dd.LLMTextColumnConfig(
            name="generation", model_alias="teacher", prompt="{{ user }}", system_prompt="{{ system }}"
        )
    )
    designer = DataDesigner(artifact_path=work["folder"], model_providers=[provider])
    started = time.perf_counter()
    table = designer.create(builder, num_records=len(work["rows"])).load_dataset()
    seconds = time.perf_counter() - started
    print(json.dumps({"rows": int(table["generation"].astype(bool).sum()), "seconds": seconds}))


if __name__ == "__main__":
    main()
