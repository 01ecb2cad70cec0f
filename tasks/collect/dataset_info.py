"""LLaMA-Factory's ``dataset_info.json``: a data set's entry as a source.

The format is described in LLaMA-Factory's data/README.md. As there, columns that an entry does not name are not read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tasks.collect.config import DatasetInfoSource, FileSource, Form, HubSource, Layout
from tasks.core.errors import SourceError
from tasks.core.suggestions import did_you_mean

FORMS: tuple[Form, ...] = ("alpaca", "sharegpt", "openai")
COLUMNS = {
    "prompt": "instruction", "query": "input", "response": "output", "history": "history",
    "messages": "messages", "system": "system", "tools": "tools",
}  # fmt: skip
"""LLaMA-Factory's name of a column: the part of a layout."""
DEFAULTS = {"prompt": "instruction", "query": "input", "response": "output", "messages": "conversations"}
"""The columns of an entry without ``columns``."""
TAGS = {
    "user_tag": "user", "assistant_tag": "assistant", "observation_tag": "tool", "function_tag": "function_call",
    "system_tag": "system",
}  # fmt: skip
ELSEWHERE = {
    "script_url": "data sets with a loading script are not supported: convert it to a file",
    "ms_hub_url": "ModelScope is not supported: name the data set's Hugging Face id as a separate source (hub: ...)",
    "om_hub_url": "Modelers is not supported: name the data set's Hugging Face id as a separate source (hub: ...)",
    "cloud_file_name": "name the file as a separate source (object: s3://...)",
}
UNFIT = {
    "chosen": "preferences", "rejected": "preferences", "kto_tag": "preferences",
    "images": "images", "videos": "videos", "audios": "sound",
}  # fmt: skip


def resolve(source: DatasetInfoSource) -> FileSource | HubSource:
    """The files or the hub data set that an entry describes; keys of the recipe take precedence."""
    where = f"{source.dataset_info}: {source.dataset}"
    entry = _entry(source)
    form, layout = _shape(entry, where)
    stated = source.model_dump(exclude={"dataset_info", "dataset"}, exclude_unset=True)
    described: dict[str, Any] = {"form": form, "layout": layout, **stated}
    if "hf_hub_url" not in entry:
        return FileSource(path=str(_file(entry, Path(source.dataset_info).parent, where)), **described)
    if entry.get("folder"):
        raise SourceError(
            "Folders of a hub data set are not supported", where=where, remedy="name the source itself: hub, subset"
        )
    try:
        split = entry.get("split") or "train"
        return HubSource(hub=entry["hf_hub_url"], subset=entry.get("subset"), split=split, **described)
    except ValidationError as error:
        raise SourceError(f"The entry is not valid: {error.errors()[0]['msg']}", where=where) from error


def _entry(source: DatasetInfoSource) -> Mapping[str, Any]:
    path = Path(source.dataset_info)
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SourceError(
            "The dataset_info.json cannot be read", where=str(path), remedy="correct dataset_info in the recipe"
        ) from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"The dataset_info.json is not valid JSON: {error}", where=str(path)) from error
    entry = entries.get(source.dataset) if isinstance(entries, Mapping) else None
    if not isinstance(entry, Mapping):
        known = sorted(entries) if isinstance(entries, Mapping) else []
        what = f"The dataset_info.json does not describe the data set {source.dataset!r}"
        remedy = f"{did_you_mean(source.dataset, known)}it describes: {', '.join(known) or 'none'}"
        raise SourceError(what, where=str(path), remedy=remedy)
    return entry


def _file(entry: Mapping[str, Any], folder: Path, where: str) -> Path:
    for key, remedy in ELSEWHERE.items():
        if key in entry:
            raise SourceError(f"The data set's location is not supported: {key}", where=where, remedy=remedy)
    name = entry.get("file_name")
    if not isinstance(name, str) or not name:
        raise SourceError("The entry names no file_name", where=where)
    try:
        file = (folder / name).resolve()
    except (OSError, ValueError) as error:
        raise SourceError(f"The entry's file_name is not a path: {error}", where=where) from error
    if not file.is_relative_to(folder.resolve()):
        what = f"The data set's file is outside the folder of its dataset_info.json: {name}"
        raise SourceError(what, where=where, remedy="move it there, or name it as a separate source (path: ...)")
    return file


def _shape(entry: Mapping[str, Any], where: str) -> tuple[Form, Layout]:
    formatting = entry.get("formatting") or "alpaca"
    if formatting not in FORMS:
        raise SourceError(
            f"The formatting {formatting!r} is not known", where=where, remedy=f"known are: {', '.join(FORMS)}"
        )
    form: Form = formatting
    columns = _texts(entry, "columns", where)
    unfit = {UNFIT[name] for name in columns if name in UNFIT} | ({"preferences"} if entry.get("ranking") else set())
    if unfit:
        raise SourceError(
            f"The data set holds {' and '.join(sorted(unfit))}: only text conversations are supported", where=where
        )
    named = columns or DEFAULTS
    parts = {part: named.get(name, "") for name, part in COLUMNS.items()}
    tags = _texts(entry, "tags", where)
    if form == "alpaca" and not parts["output"]:
        return _plain_text(parts, where)
    return form, Layout.model_validate(
        {
            **parts,
            "role_key": tags.get("role_tag"),
            "content_key": tags.get("content_tag"),
            "roles": {tags[tag]: role for tag, role in TAGS.items() if tag in tags},
        }
    )


def _plain_text(parts: Mapping[str, str], where: str) -> tuple[Form, Layout]:
    if not parts["instruction"] or parts["input"]:
        raise SourceError("The data set has no answers", where=where, remedy="name its response column")
    return "text", Layout(text=parts["instruction"])


def _texts(entry: Mapping[str, Any], key: str, where: str) -> dict[str, str]:
    found = entry.get(key) or {}
    if not isinstance(found, Mapping) or not all(isinstance(value, str | None) for value in found.values()):
        raise SourceError(f"The entry's {key} is not a mapping of names", where=where)
    return {name: value for name, value in found.items() if value}
