"""A chat request, and its body in the form of vLLM or of OpenAI."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core.prompts.front_matter import Sampling

ROWS = "rows"
"""The property that holds an array for servers whose schemas must describe objects."""
LENIENT = {"lenient": True, "coerce_one_of": True}
"""For llguidance in vLLM: it ignores keywords that it cannot enforce (``uniqueItems``, ``not``) in place of refusing
the request; the answer is validated later."""


@dataclass(frozen=True)
class Request:
    """A chat request.

    Attributes:
        request_id: digest of everything that determines it.
        json_schema: a schema that the answer must follow, or None.
        tools: tools for the chat template to list (OpenAI's form, JSON text), or None. A call comes back in the
            answer's text, as the model wrote it.
        stop_token_ids: tokens that end the answer, in addition to those that vLLM finds in the served model's folder.
    """

    request_id: str
    messages: Sequence[Mapping[str, Any]]
    sampling: Sampling
    seed: int
    json_schema: Mapping[str, Any] | None = None
    tools: str | None = None
    stop_token_ids: tuple[int, ...] = ()


def request_body(request: Request, is_vllm: bool) -> dict[str, Any]:
    """The JSON body of a request, without the model's name."""
    sampling = request.sampling
    body: dict[str, Any] = {
        "messages": list(request.messages),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": request.seed,
    }
    for name in ("presence_penalty", "frequency_penalty"):
        if value := getattr(sampling, name):
            body[name] = value
    if request.tools is not None:
        body |= {"tools": json.loads(request.tools), "tool_choice": "none"}
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    body |= {name: getattr(sampling, name) for name in ("top_k", "min_p") if is_vllm or getattr(sampling, name)}
    if is_vllm:
        body["repetition_penalty"] = 1.0
        if request.stop_token_ids:
            body["stop_token_ids"] = list(request.stop_token_ids)
    if request.json_schema is not None:
        schema = dict(request.json_schema)
        if is_vllm:
            body["structured_outputs"] = {"json": {"x-guidance": LENIENT, **schema}}
        else:
            named = {"name": "answer", "schema": _object_schema(schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
    return body


def _object_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that OpenAI accepts: an array is wrapped in an object; its definitions stay at the root."""
    if schema.get("type") != "array":
        return schema
    shared: dict[str, Any] = {name: schema[name] for name in ("$defs", "definitions") if name in schema}
    array = {name: value for name, value in schema.items() if name not in shared}
    return {"type": "object", "properties": {ROWS: array}, "required": [ROWS], "additionalProperties": False, **shared}
