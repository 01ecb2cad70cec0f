"""Read a data contract from its file, check it, and compile it to rules, without running them.

Compiled are ``required``, ``unique``, ``primaryKey``, ``enum`` and ``logicalTypeOptions`` of properties, and quality
rules of ``type: custom, engine: greatExpectations``; not ``type: text`` and the inner properties of ``messages``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tasks.core.errors import ContractError, joined
from tasks.core.findings import Finding, errors_in, first_error
from tasks.core.tables import Columns
from tasks.validate.contracts.compiler import compile_table
from tasks.validate.contracts.odcs import read_file
from tasks.validate.contracts.rule import ContractContext, Rule

NO_CONTEXT = ContractContext()


@dataclass(frozen=True)
class Contract:
    """A contract that was read and checked, or some of its rules; ``types`` are its columns' ODCS logical types."""

    path: Path
    name: str
    version: str
    rules: tuple[Rule, ...]
    types: Mapping[str, str] = field(default_factory=dict)

    @property
    def on_rows(self) -> Contract:
        return replace(self, rules=tuple(rule for rule in self.rules if rule.level == "row"))

    @property
    def on_table(self) -> Contract:
        return replace(self, rules=tuple(rule for rule in self.rules if rule.level == "table"))

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(column for rule in self.rules for column in rule.reads))


def read_contract(
    path: Path, columns: Columns | Sequence[str], *, table: str | None = None, context: ContractContext = NO_CONTEXT
) -> Contract:
    """Read a contract for a table with these columns, and the types that they are stored as, where those are known.

    Raises ContractError: the file is missing or not ODCS, or a rule names an unknown column or expectation, has
    arguments that do not fit, or can never fail or never hold; with file and line.
    """
    contract, findings = examine_contract(path, columns, table=table, context=context)
    if errors := errors_in(findings):
        raise joined(ContractError(one.what, where=f"{one.path}:{one.line}", remedy=one.remedy) for one in errors)
    if contract is None:
        raise ContractError("The data contract cannot be read", where=str(path))
    return contract


def examine_contract(
    path: Path, columns: Columns | Sequence[str], *, table: str | None = None, context: ContractContext = NO_CONTEXT
) -> tuple[Contract | None, list[Finding]]:
    """As :func:`read_contract`, with everything that is wrong; the contract is None if a finding is an error."""
    file, findings = read_file(path)
    if file is None:
        return None, findings
    compiled, found = compile_table(file, columns, table, context)
    findings += found
    if compiled is None or first_error(findings):
        return None, findings
    name = file.document.name or file.document.id or path.stem
    return Contract(path, name, file.document.version or "", compiled.rules, compiled.types), findings
