"""The first boundary: collected documents that break their contract feed no prompt, train nothing and ask nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.core import tables
from tasks.core.artifacts import REPORT_FOLDER, ArtifactRef, StageKey, Summary
from tasks.core.details import DocumentsDetails
from tasks.core.progress import say
from tasks.core.stage import StageContext
from tasks.core.table_writer import TableWriter
from tasks.validate.boundary import (
    DATA_DOCS,
    LIBRARIES,
    contract_digests,
    kept_if_it_stops,
    reported_only,
    shaping,
)
from tasks.validate.checkpoint import RuleResult, run_checkpoint
from tasks.validate.config import ValidateConfig
from tasks.validate.contracts.columns import document_columns
from tasks.validate.contracts.contract import Contract, read_contract
from tasks.validate.contracts.rule import ContractContext
from tasks.validate.json_texts import TEXT
from tasks.validate.quarantine import Breach, contract_breaches, counts_by_rule, quarantined, write_quarantine
from tasks.validate.rows import read_documents
from tasks.validate.stops import LostDocuments, check_findings

VERSION = 1
BATCH_ROWS = 20_000
MOST_NAMES = 100
"""Sources that are counted one by one."""
DOCUMENTS, EVALUATIONS = "documents", "evaluations"
TABLES = {DOCUMENTS: tables.TRAIN, EVALUATIONS: tables.HOLDOUT}
"""The collect artifact's table that each contract is for."""
ORIGINS = {DOCUMENTS: "collected", EVALUATIONS: "held out"}


@dataclass(frozen=True)
class CheckDocumentsJob:
    """Everything the check reads.

    Attributes:
        config: the recipe's section.
        collected: the documents and the holdout.
        fields: the fields of a document, as contracts may name them.
        context: what rules take from the recipe.
    """

    config: ValidateConfig
    collected: ArtifactRef
    fields: tuple[str, ...]
    context: ContractContext

    def key(self) -> StageKey:
        """What determines which documents are left."""
        contracts = {boundary: path for boundary, path in self.config.contracts if boundary in TABLES}
        return StageKey(
            stage="check_documents",
            version=VERSION,
            config={"fields": self.fields, "context": shaping(self.context)},
            inputs=[self.collected],
            files=contract_digests(contracts),
            libraries=LIBRARIES,
        )

    def fill(self, folder: Path, context: StageContext) -> Summary:
        """Write the documents that keep their contracts, as the collect stage wrote them, and those that do not.

        Raises:
            ContractViolation: a table as a whole breaks its contract. What was found is then kept beside the run's
                logs.
        """
        with kept_if_it_stops(folder, context, "check_documents"):
            contracts = {boundary: self._contract(boundary) for boundary in TABLES}
            checked = [self._check(boundary, contract, folder) for boundary, contract in contracts.items()]
            self._write_quarantine(folder / tables.QUARANTINE, checked)
            for one in checked:
                check_findings(contracts[one.boundary], one.findings)
        for one in checked:
            if one.boundary == EVALUATIONS and one.broken.any():
                say(f"  {one.broken.sum()} held-out documents break their contract and will not be asked")
        return _summary(checked)

    def _contract(self, boundary: str) -> Contract:
        path = Path(getattr(self.config.contracts, boundary))
        return read_contract(path, document_columns(self.fields), context=self.context)

    def _check(self, boundary: str, contract: Contract, folder: Path) -> _Checked:
        """Run a contract on its table, and divide it."""
        source = self.collected.folder / TABLES[boundary]
        documents = read_documents(source, [name for name in self.fields if name in contract.reads])
        findings = run_checkpoint(contract, documents, folder / REPORT_FOLDER / DATA_DOCS / boundary)
        breaches = contract_breaches(contract, findings)
        broken = quarantined(breaches, documents.num_rows)
        rejected = folder / f"{boundary}.rejected.parquet"
        conversations = _divide(source, broken, folder / source.name, rejected)
        rows = _as_rows(read_documents(rejected, self.fields), ORIGINS[boundary])
        rejected.unlink()
        return _Checked(boundary, source, findings, breaches, broken, rows, conversations)

    def _write_quarantine(self, path: Path, checked: Iterable[_Checked]) -> None:
        """One file for both tables; ``origin`` tells them apart."""
        rows: list[pa.Table] = []
        breaches: list[Breach] = []
        for one in checked:
            start = sum(table.num_rows for table in rows)
            breaches += [_moved(breach, np.flatnonzero(one.broken), start) for breach in one.breaches]
            rows.append(one.rejected)
        write_quarantine(path, pa.concat_tables(rows), breaches, self.fields)


def find_lost_documents(folder: Path) -> LostDocuments:
    """The training documents that this stage set aside; held-out ones do not count.

    Args:
        folder: of the stage's artifact.
    """
    rules: Counter[str] = Counter()
    with pq.ParquetFile(folder / tables.QUARANTINE) as quarantine:
        for batch in quarantine.iter_batches(BATCH_ROWS, columns=["origin", "breaches.list.element.rule"]):
            lost = batch.filter(pc.equal(batch["origin"], ORIGINS[DOCUMENTS]))
            rules.update(pc.struct_field(pc.list_element(lost["breaches"], 0), "rule").to_pylist())
    kept = pq.read_metadata(folder / TABLES[DOCUMENTS]).num_rows
    return LostDocuments(kept + rules.total(), dict(rules.most_common()), folder / tables.QUARANTINE)


@dataclass(frozen=True)
class _Checked:
    """What a contract found in its table.

    Attributes:
        boundary: the contract's key in a recipe.
        source: the table's file.
        findings: of all rules.
        breaches: rows that break a rule.
        broken: which rows are quarantined.
        rejected: these rows.
        conversations: of the rows that are left, how many are conversations.
    """

    boundary: str
    source: Path
    findings: list[RuleResult]
    breaches: list[Breach]
    broken: NDArray[np.bool_]
    rejected: pa.Table
    conversations: int


def _divide(source: Path, broken: NDArray[np.bool_], kept: Path, rejected: Path) -> int:
    """Write the rows of a table that are not quarantined, and those that are; count the conversations among the first.

    Both as they were stored, a batch at a time.
    """
    conversations = start = 0
    schema = pq.read_schema(source)
    with (
        pq.ParquetFile(source) as parquet,
        TableWriter(kept, schema) as writer,
        TableWriter(rejected, schema) as leavings,
    ):
        for batch in parquet.iter_batches(BATCH_ROWS):
            is_broken = pa.array(broken[start : start + batch.num_rows])
            rest = batch.filter(pc.invert(is_broken))
            writer.add_table(pa.Table.from_batches([rest]))
            leavings.add_table(pa.Table.from_batches([batch.filter(is_broken)]))
            conversations += int(pc.sum(pc.greater(pc.list_value_length(rest["messages"]), 0)).as_py() or 0)
            start += batch.num_rows
    return conversations


def _as_rows(documents: pa.Table, origin: str) -> pa.Table:
    """Documents with the columns by which the quarantine knows rows."""
    return documents.append_column("row_id", documents["document_id"]).append_column(
        "origin", pa.chunked_array([pa.repeat(pa.scalar(origin, TEXT), documents.num_rows)], TEXT)
    )


def _moved(breach: Breach, positions: NDArray[np.int64], start: int) -> Breach:
    """The same breach of the quarantined rows alone, which stand from ``start`` on in another table."""
    broken = breach.rows[np.isin(breach.rows, positions)]
    return replace(breach, rows=start + np.searchsorted(positions, broken))


def _summary(checked: Sequence[_Checked]) -> Summary:
    """The counts of both tables, in all, by contract, by rule and by source."""
    by_contract = {one.boundary: _outcomes(len(one.broken), int(one.broken.sum())) for one in checked}
    details = DocumentsDetails(
        conversations={one.source.stem: one.conversations for one in checked},
        rules=counts_by_rule(breach for one in checked for breach in one.breaches),
        by_contract=by_contract,
        by_source=_by_source(checked),
        warnings={
            f"{one.boundary}: {rule}": said for one in checked for rule, said in reported_only(one.findings).items()
        },
    )
    rows, lost = (sum(one[name] for one in by_contract.values()) for name in ("rows_in", "quarantined"))
    return Summary(rows, rows - lost, lost, details=details)


def _outcomes(rows: int, quarantined: int) -> dict[str, int]:
    return {"rows_in": rows, "accepted": rows - quarantined, "quarantined": quarantined}


def _by_source(checked: Iterable[_Checked]) -> dict[str, dict[str, int]]:
    """The outcomes of both tables' rows by document source, in the order of the alphabet; the largest sources only."""
    tables = [pq.read_table(one.source, columns=["source"]).append_column("broken", [one.broken]) for one in checked]
    counted = pa.concat_tables(tables).group_by("source").aggregate([([], "count_all"), ("broken", "sum")])
    most = counted.sort_by([("count_all", "descending"), ("source", "ascending")]).slice(0, MOST_NAMES)
    found = zip(*(most[name].to_pylist() for name in ("source", "count_all", "broken_sum")), strict=True)
    return {str(source): _outcomes(rows, broken) for source, rows, broken in sorted(found, key=str)}
