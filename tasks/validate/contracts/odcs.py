"""Read a contract file of the Open Data Contract Standard (ODCS v3, https://bitol.io) and check it by the standard."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import validator_for

from tasks.core.findings import Finding
from tasks.core.suggestions import did_you_mean
from tasks.core.yaml_tree import broken_texts, doubled_keys, find_node, odd_keys, place_of, yaml_fault

if TYPE_CHECKING:
    from open_data_contract_standard.model import DataQuality, OpenDataContractStandard

SEE = "see https://bitol-io.github.io/open-data-contract-standard, or data_contracts/ for examples"
Place = tuple[str | int, ...]


class _TextLoader(yaml.SafeLoader):
    """A YAML loader that leaves dates as text, as the standard's JSON schema requires."""


_TextLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True)
class ContractFile:
    """A contract file: its content as the standard's own models, and its YAML nodes, for line numbers."""

    path: Path
    document: OpenDataContractStandard
    tree: yaml.Node

    def place(self, at: Place) -> tuple[int, int]:
        """Line and column of the deepest part of a path through the document that exists."""
        return find_node(self.tree, at)[0]

    def where(self, at: Place) -> str:
        return f"{self.path}:{self.place(at)[0]}"

    def finding(self, code: str, what: str, at: Place, remedy: str, *, is_error: bool = True) -> Finding:
        return Finding(code, what, str(self.path), *self.place(at), remedy, "error" if is_error else "warning")


def read_file(path: Path) -> tuple[ContractFile | None, list[Finding]]:
    """A contract (None if the file is not one), and what is wrong with it by the standard's JSON schema."""
    from open_data_contract_standard.model import OpenDataContractStandard
    from pydantic import ValidationError as Invalid

    text, tree, data = _read_yaml(path)
    if isinstance(data, Finding):
        return None, [data]
    findings = list(_yaml_faults(path, tree)) or _schema_faults(path, tree, text)
    version = data.get("version")  # a number, if its quotes are missing: read on, to find other faults as well
    readable = {**data, "version": str(version)} if isinstance(version, int | float) else data
    try:
        return ContractFile(path, OpenDataContractStandard.model_validate(readable), tree), findings
    except Invalid:
        return None, findings


def implementation_of(rule: DataQuality) -> dict[str, Any] | None:
    """The expectation that a quality rule names and its ``kwargs``; None where ``implementation`` is malformed."""
    written = rule.implementation
    try:
        wanted = yaml.safe_load(written) if isinstance(written, str) else written
    except yaml.YAMLError:
        return None
    is_sound = isinstance(wanted, dict) and isinstance(wanted.get("type"), str) and not set(wanted) - {"type", "kwargs"}
    return wanted if is_sound else None


def is_great_expectations(engine: str | None) -> bool:
    return re.sub(r"[_\- ]", "", engine or "").lower() == "greatexpectations"


def _schema_faults(path: Path, tree: yaml.Node, text: str) -> list[Finding]:
    found: dict[tuple[int, int], Finding] = {}
    for error in _schema_errors(text):
        for fault in _as_findings(path, tree, best_match([error]) or error):
            found.setdefault((fault.line, fault.column), fault)
    return [found[place] for place in sorted(found)]


@lru_cache(maxsize=64)
def _schema_errors(text: str) -> tuple[ValidationError, ...]:
    return tuple(validator_for(_schema())(_schema()).iter_errors(_parse(text)[1]))


@lru_cache(maxsize=64)
def _parse(text: str) -> tuple[yaml.Node | None, Any]:
    """Nodes and content, for reading only. Read apart: reading the content adds the keys of merges to the nodes."""
    return yaml.compose(text, _TextLoader), yaml.load(text, _TextLoader)


@cache
def _schema() -> dict[str, Any]:
    from open_data_contract_standard.model import OpenDataContractStandard

    schema: dict[str, Any] = _corrected(json.loads(OpenDataContractStandard.json_schema()))
    return schema


def _as_findings(path: Path, tree: yaml.Node, error: ValidationError) -> Iterator[Finding]:
    at = tuple(error.absolute_path)
    name = ".".join(str(part) for part in at) or "the contract"
    if error.validator not in ("additionalProperties", "unevaluatedProperties") or not isinstance(error.instance, dict):
        what = f"Not an Open Data Contract (ODCS v3): {name}: {error.message}"
        yield Finding("not-odcs", what, str(path), *find_node(tree, at)[0], SEE)
        return
    for key in error.instance:
        if repr(key) in error.message:  # it quotes the unknown keys
            elsewhere = key in _known_keys()
            hint = "the key belongs elsewhere in a contract; " if elsewhere else did_you_mean(key, _known_keys())
            what = f"Not an Open Data Contract (ODCS v3): {name} has no key {key!r}"
            yield Finding("unknown-key", what, str(path), *find_node(tree, (*at, key))[0], f"{hint}{SEE}")


@cache
def _known_keys() -> tuple[str, ...]:
    def keys(part: Any) -> Iterator[str]:
        if isinstance(part, dict):
            named = part.get("properties")
            yield from named if isinstance(named, dict) else ()
        for item in part if isinstance(part, list) else part.values() if isinstance(part, dict) else ():
            yield from keys(item)

    return tuple(dict.fromkeys(keys(_schema())))


def _yaml_faults(path: Path, tree: yaml.Node) -> Iterator[Finding]:
    for text in broken_texts(tree):
        yield Finding("yaml", "Half of a surrogate pair is not a character", str(path), *place_of(text), "remove it")
    for odd in odd_keys(tree):
        yield Finding("yaml", "A key is not text", str(path), *place_of(odd), "put templates and braces in quotes")
    for key in doubled_keys(tree):
        what = f"The key {key.value!r} occurs twice, and YAML takes the last"
        yield Finding("duplicate-key", what, str(path), *place_of(key), "remove one of the two")


def _corrected(schema: Any) -> Any:
    """The standard's JSON schema; in 3.2.0, a property without a logicalType is else reported to lack ``map``."""
    if isinstance(schema, list):
        return [_corrected(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    corrected = {name: _corrected(item) for name, item in schema.items()}
    is_condition = set(schema) == {"properties"} and "const" in schema["properties"].get("logicalType", {})
    return {**corrected, "required": ["logicalType"]} if is_condition else corrected


def _read_yaml(path: Path) -> tuple[str, yaml.Node, dict[str, Any] | Finding]:
    place = 1, 1
    try:
        text = path.read_text(encoding="utf-8-sig")
        tree, data = _parse(text)
    except FileNotFoundError:
        code, what = "no-file", "The data contract does not exist"
        known = ", ".join(sorted(other.name for other in path.parent.glob("*.y*ml"))) or "none"
        remedy = f"contracts in that folder: {known}"
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8")
        place = before.count("\n") + 1, len(before) - before.rfind("\n")
        code, what, remedy = "encoding", f"The data contract is not UTF-8: {error.reason}", "save it as UTF-8"
    except OSError as error:
        code, what, remedy = "no-file", f"The data contract cannot be read: {error.strerror}", "name a readable file"
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem, place, remedy = yaml_fault(text, error)
        code, what = "yaml", f"The data contract is not valid YAML: {problem}"
    else:
        if tree and isinstance(data, dict):
            return text, tree, data
        code, what, remedy = "yaml", "The data contract is not a mapping", "begin with apiVersion: v3.1.0"
    return "", yaml.ScalarNode("tag:yaml.org,2002:null", ""), Finding(code, what, str(path), *place, remedy)
