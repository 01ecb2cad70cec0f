"""An answer's text into fields of a row, or the rule it breaks."""

from __future__ import annotations

import json
import re

from jsonschema import Draft202012Validator

from tasks.core.answers import Answer
from tasks.core.files import canonical_json
from tasks.core.prompts import Output

FENCE = re.compile(r"^```(?:json)?\s*\n(.*)\n```$", re.DOTALL)


def rejection(answer: Answer) -> str | None:
    """Why an answer cannot be used at all, or None."""
    if answer.is_refused:
        return answer.finish_reason
    if answer.finish_reason == "length":
        return "truncated: the answer ran into max_tokens"
    if not answer.text.strip():
        return "empty: the answer has no text"
    return None


def parse(output: Output, answer: Answer) -> tuple[dict[str, str], str | None]:
    """The fields of an answer, and the rule it breaks (then there are none)."""
    if problem := rejection(answer):
        return {}, problem
    text = answer.text.strip()
    if output.format == "text":
        return {output.field: text}, None
    fenced = FENCE.match(text)
    assert output.json_schema is not None
    try:
        value = json.loads(fenced[1] if fenced else text, parse_constant=_refuse)
        broken = next(Draft202012Validator(output.json_schema).iter_errors(value), None)
        if broken is not None:
            return {}, f"schema: {broken.message}"
        if not isinstance(value, dict):
            return {}, "schema: the answer is no object"
        fields = {name: item if isinstance(item, str) else canonical_json(item) for name, item in value.items()}
        canonical_json(fields).encode("utf-8")
    except UnicodeEncodeError:
        return {}, "encoding: the answer spells half of a surrogate pair, which is no text"
    except (ValueError, RecursionError, OverflowError) as error:  # too deep, or 1e999, which no schema can measure
        return {}, f"unparseable: no JSON ({error})"
    return fields, None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def accepts(output: Output, answer: Answer) -> bool:
    """Whether a check's answer matches its ``accept`` pattern."""
    return rejection(answer) is None and re.search(output.accept or "", answer.text.strip(), re.IGNORECASE) is not None
