"""The base of every section of a recipe, and the sections that several stages share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Section(BaseModel):
    """A part of a recipe: frozen data that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSource(Section):
    """A language model: a local folder in Hugging Face layout, or a repository of a model hub."""

    path: str = Field(
        description="folder (relative to the recipe's file), hub id such as Qwen/Qwen2.5-0.5B-Instruct, or a name of"
        " `retune model list`"
    )
    revision: str | None = Field(None, description="commit of the hub repository; a hub id without one is not pinned")
    trust_remote_code: bool = Field(
        False, description="run the model's own Python code: a folder's, or that of a hub repository's pinned revision"
    )

    @property
    def is_local(self) -> bool:
        """Whether the path is a folder: reading a recipe makes the paths of folders absolute."""
        return Path(self.path).is_absolute()


class ChatTask(Section):
    """The task that the model learns: fields of a row become the turns of a conversation."""

    system: str | None = Field(None, description="system turn of every example")
    input: str = Field("input", description="field that becomes the user's turn")
    output: str = Field("output", description="field that becomes the assistant's turn")
    context: str | None = Field(
        None, description="field added to the user's turn on its own line, if it has text: Alpaca's input"
    )
    labels: tuple[str, ...] = Field((), description="the closed set of outputs, where the task has one")


class ServerSettings(Section):
    """Settings of a stage's vLLM server."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_model_len: int | None = Field(
        None,
        ge=32,
        description="context length in tokens; None: generate fits it to its requests, else the model's own",
    )
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs that share each layer of the model")
    data_parallel_size: int = Field(1, ge=1, description="copies of the model, each on its own GPUs")
    quantization: str | None = Field(
        None, description="as vLLM names it: awq, gptq, fp8, bitsandbytes ...; None: as the model's own config says"
    )
    reasoning_parser: str | None = Field(
        None, description="vLLM's parser for the model's reasoning, such as qwen3; answers then come without it"
    )
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="share of each GPU's memory that vLLM may take")
    cpu_kv_cache_gib: float = Field(
        2.0, gt=0, description="size of the key-value cache on a machine without a GPU; 1 GiB takes 3 s to set up"
    )
    start_timeout_s: int = Field(300, ge=1)
    extra_args: tuple[str, ...] = Field((), description="further arguments for vLLM's API server")

    @property
    def shaping(self) -> dict[str, Any]:
        """The settings that shape answers; the others affect only speed."""
        shaping = self.model_dump(include={"dtype", "max_model_len", "quantization", "extra_args"})
        return shaping | ({"reasoning_parser": self.reasoning_parser} if self.reasoning_parser else {})
