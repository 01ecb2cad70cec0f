"""A contract file of the Open Data Contract Standard (ODCS v3, https://bitol.io): read, checked, and known by line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from jsonschema.exceptions import best_match
from jsonschema.validators import validator_for

from tasks.core.errors import ContractError

if TYPE_CHECKING:
    from open_data_contract_standard.model import OpenDataContractStandard

Place = Sequence[str | int]


class _TextLoader(yaml.SafeLoader):
    """YAML as ODCS means it: dates stay text, as its JSON schema wants them."""


_TextLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True)
class ContractFile:
    """A contract file that was read.

    Attributes:
        path: the file.
        document: its content as the standard's own models.
        tree: its YAML nodes, for line numbers.
    """

    path: Path
    document: OpenDataContractStandard
    tree: yaml.Node

    @classmethod
    def read(cls, path: Path) -> ContractFile:
        """Read a contract and hold it against the standard's JSON schema.

        Raises:
            ContractError: the file is missing, no YAML, or no ODCS v3; with the line.
        """
        from open_data_contract_standard.model import OpenDataContractStandard

        tree, data = _read_yaml(path)
        schema = _mended(json.loads(OpenDataContractStandard.json_schema()))
        error = best_match(validator_for(schema)(schema).iter_errors(data))
        if error is not None:
            place = ".".join(str(part) for part in error.absolute_path) or "the contract"
            raise ContractError(
                f"Not an Open Data Contract (ODCS v3): {place}: {error.message}",
                where=_where(path, tree, list(error.absolute_path)),
                remedy="see https://bitol-io.github.io/open-data-contract-standard, or data_contracts/ for examples",
            )
        return cls(path, OpenDataContractStandard.model_validate(data), tree)

    def where(self, at: Place) -> str:
        """File and line of the deepest part of a path through the document that exists."""
        return _where(self.path, self.tree, at)

    def error(self, what: str, at: Place, remedy: str) -> ContractError:
        """An error at a place in this file."""
        return ContractError(what, where=self.where(at), remedy=remedy)


def _mended(schema: Any) -> Any:
    """The standard's JSON schema, whose conditions on ``logicalType`` also hold where there is none (as of 3.2.0).

    Without this a property that leaves it out is told that it lacks ``map``.
    """
    if isinstance(schema, list):
        return [_mended(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    mended = {name: _mended(item) for name, item in schema.items()}
    is_condition = set(schema) == {"properties"} and "const" in schema["properties"].get("logicalType", {})
    return {**mended, "required": ["logicalType"]} if is_condition else mended


def _read_yaml(path: Path) -> tuple[yaml.Node, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        tree, data = yaml.compose(text, _TextLoader), yaml.load(text, _TextLoader)
    except FileNotFoundError as error:
        known = ", ".join(sorted(other.name for other in path.parent.glob("*.y*ml"))) or "none"
        raise ContractError(
            "The data contract does not exist", where=str(path), remedy=f"contracts in that folder: {known}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(
            f"The data contract cannot be read: {error}", where=str(path), remedy="name a readable UTF-8 file"
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ContractError(
            f"The data contract is no YAML: {getattr(error, 'problem', None) or error}",
            where=f"{path}:{mark.line + 1 if mark else 1}",
            remedy="correct the YAML at that line",
        ) from error
    if tree is None or not isinstance(data, dict):
        raise ContractError(
            "The data contract is no mapping", where=f"{path}:1", remedy="begin with apiVersion: v3.0.2"
        )
    return tree, data


def _where(path: Path, tree: yaml.Node, at: Place) -> str:
    node, line = tree, tree.start_mark.line
    for part in at:
        if isinstance(node, yaml.MappingNode):
            pair = next(((key, value) for key, value in node.value if key.value == part), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
    return f"{path}:{line + 1}"
