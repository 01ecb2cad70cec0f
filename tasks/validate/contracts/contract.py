"""A data contract: read from its file, checked, and compiled to rules, without running any of them.

Compiled: of a property ``required``, ``unique``, ``primaryKey``, ``enum`` and the lengths, pattern and bounds in
``logicalTypeOptions``; and every quality rule of ``type: custom, engine: greatExpectations``. ``type: text`` is prose.
``logicalType`` is held against how the column is stored. Not compiled: the inner properties of ``messages``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tasks.core.errors import ContractError
from tasks.core.findings import Finding, first_error
from tasks.core.tables import Columns
from tasks.validate.contracts.columns import contract_columns, document_columns
from tasks.validate.contracts.compiler import Compiled, compile_table
from tasks.validate.contracts.odcs import ContractFile, read_file
from tasks.validate.contracts.rule import ContractContext, Rule

__all__ = [
    "Contract",
    "ContractContext",
    "Rule",
    "check_contract",
    "contract_columns",
    "document_columns",
    "examine_contract",
    "read_contract",
]
NO_CONTEXT = ContractContext()


@dataclass(frozen=True)
class Contract:
    """A contract that was read and checked, or those of its rules that are asked for.

    Attributes:
        path: its file.
        name: as the file says.
        version: as the file says: ``MAJOR.MINOR.PATCH``.
        rules: in the order of the file.
        types: the ODCS logical type of each column that the file gives one.
    """

    path: Path
    name: str
    version: str
    rules: tuple[Rule, ...]
    types: Mapping[str, str] = field(default_factory=dict)

    @property
    def on_rows(self) -> Contract:
        """The same with only the rules that name the rows that break them."""
        return replace(self, rules=tuple(rule for rule in self.rules if rule.level == "row"))

    @property
    def on_table(self) -> Contract:
        """The same with only the rules that judge the table as a whole."""
        return replace(self, rules=tuple(rule for rule in self.rules if rule.level == "table"))

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that its rules need to run."""
        return tuple(dict.fromkeys(column for rule in self.rules for column in rule.reads))


def read_contract(
    path: Path, columns: Columns | Sequence[str], *, table: str | None = None, context: ContractContext = NO_CONTEXT
) -> Contract:
    """Read a contract for a table of these columns, and find everything that can be wrong with it.

    Args:
        path: the file.
        columns: of the table, with the logical types that they are stored as, where those are known.
        table: which of the contract's tables; None: the first.
        context: what rules take from the recipe.

    Raises:
        ContractError: the file is missing or no ODCS, or a rule names an unknown column, an unknown expectation or
            arguments that it does not take, or can never fail or never hold; with file and line.
    """
    contract, findings = examine_contract(path, columns, table=table, context=context)
    if error := first_error(findings):
        raise ContractError(error.what, where=f"{error.path}:{error.line}", remedy=error.remedy)
    if contract is None:
        raise ContractError("The data contract cannot be read", where=str(path))
    return contract


def check_contract(
    path: Path, columns: Columns | Sequence[str], *, table: str | None = None, context: ContractContext = NO_CONTEXT
) -> None:
    """Find what is wrong with a contract before anything runs. Errors: as :func:`read_contract`."""
    read_contract(path, columns, table=table, context=context)


def examine_contract(
    path: Path, columns: Columns | Sequence[str], *, table: str | None = None, context: ContractContext = NO_CONTEXT
) -> tuple[Contract | None, list[Finding]]:
    """Read a contract and all that is wrong with it; no contract where there is an error among the findings.

    Args: as :func:`read_contract`.
    """
    file, findings = read_file(path)
    if file is None:
        return None, findings
    compiled, found = compile_table(file, columns, table, context)
    findings += found
    return (None if compiled is None or first_error(findings) else _contract(file, compiled)), findings


def _contract(file: ContractFile, compiled: Compiled) -> Contract:
    document = file.document
    name = document.name or document.id or file.path.stem
    return Contract(file.path, name, document.version or "", compiled.rules, compiled.types)
