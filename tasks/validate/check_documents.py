"""The first boundary: quarantine collected documents that break their contract, before anything reads them."""

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
from tasks.validate.boundary import DATA_DOCS, LIBRARIES, context_key, contract_digests, kept_if_it_stops, warnings_of
from tasks.validate.checkpoint import RuleResult, run_checkpoint
from tasks.validate.config import ValidateConfig
from tasks.validate.contracts.columns import document_columns
from tasks.validate.contracts.contract import Contract, read_contract
from tasks.validate.contracts.rule import ContractContext
from tasks.validate.quarantine import Breach, contract_breaches, counts_by_rule, quarantined, write_quarantine
from tasks.validate.rows import COLLECTED, constant, read_documents
from tasks.validate.stops import LostDocuments, check_results

VERSION = 2
BATCH_ROWS = 20_000
MOST_NAMES = 100
"""Sources that are counted, largest first."""
DOCUMENTS, EVALUATIONS = "documents", "evaluations"
TABLES = {DOCUMENTS: tables.TRAIN, EVALUATIONS: tables.HOLDOUT}
"""The collect artifact's table that each contract is for."""
ORIGINS = {DOCUMENTS: COLLECTED, EVALUATIONS: "held out"}


@dataclass(frozen=True)
class CheckDocumentsJob:
    """The inputs of the check; contracts may name ``fields`` of the recipe and read its ``context``."""

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
            config={"fields": self.fields, "context": context_key(self.context)},
            inputs=[self.collected],
            files=contract_digests(contracts),
            libraries=LIBRARIES,
        )

    def fill(self, folder: Path, context: StageContext) -> Summary:
        """Write the documents that keep their contracts, and the quarantine.

        Raises ContractViolation if a table as a whole breaks its contract; the results are then in the run's logs.
        """
        with kept_if_it_stops(folder, context, "check_documents"):
            contracts = {boundary: self._contract(boundary) for boundary in TABLES}
            checked = [self._check(boundary, contract, folder) for boundary, contract in contracts.items()]
            self._write_quarantine(folder / tables.QUARANTINE, checked)
            for table in checked:
                check_results(contracts[table.boundary], table.results)
        for table in checked:
            if table.boundary == EVALUATIONS and table.is_broken.any():
                say(f"  {table.is_broken.sum()} held-out documents break their contract and will not be asked")
        return _summary(checked)

    def _contract(self, boundary: str) -> Contract:
        path = Path(getattr(self.config.contracts, boundary))
        return read_contract(path, document_columns(self.fields), context=self.context)

    def _check(self, boundary: str, contract: Contract, folder: Path) -> _Checked:
        source = self.collected.folder / TABLES[boundary]
        documents = read_documents(source, [name for name in self.fields if name in contract.reads])
        results = run_checkpoint(contract, documents, folder / REPORT_FOLDER / DATA_DOCS / boundary)
        breaches = contract_breaches(contract, results)
        is_broken = quarantined(breaches, documents.num_rows)
        rejected = folder / f"{boundary}.rejected.parquet"
        conversations = _split(source, is_broken, folder / source.name, rejected)
        rows = read_documents(rejected, self.fields)
        rejected.unlink()
        rows = rows.append_column("row_id", rows["document_id"])
        rows = rows.append_column("origin", constant(ORIGINS[boundary], rows.num_rows))
        return _Checked(boundary, source, results, breaches, is_broken, rows, conversations)

    def _write_quarantine(self, path: Path, checked: Iterable[_Checked]) -> None:
        rows: list[pa.Table] = []
        breaches: list[Breach] = []
        for table in checked:
            start = sum(part.num_rows for part in rows)
            positions = np.flatnonzero(table.is_broken)
            for breach in table.breaches:
                broken = breach.rows[np.isin(breach.rows, positions)]
                breaches.append(replace(breach, rows=start + np.searchsorted(positions, broken)))
            rows.append(table.rejected)
        write_quarantine(path, pa.concat_tables(rows), breaches, self.fields)


def find_lost_documents(folder: Path, run_id: str) -> LostDocuments:
    """The training documents that this stage quarantined, read from its artifact's folder, in a run."""
    rules: Counter[str] = Counter()
    with pq.ParquetFile(folder / tables.QUARANTINE) as quarantine:
        for batch in quarantine.iter_batches(BATCH_ROWS, columns=["origin", "breaches.list.element.rule"]):
            lost = batch.filter(pc.equal(batch["origin"], ORIGINS[DOCUMENTS]))
            rules.update(pc.struct_field(pc.list_element(lost["breaches"], 0), "rule").to_pylist())
    kept = pq.read_metadata(folder / TABLES[DOCUMENTS]).num_rows
    return LostDocuments(kept + rules.total(), dict(rules.most_common()), folder / tables.QUARANTINE, run_id)


@dataclass(frozen=True)
class _Checked:
    boundary: str
    source: Path
    results: list[RuleResult]
    breaches: list[Breach]
    is_broken: NDArray[np.bool_]
    rejected: pa.Table
    conversations: int


def _split(source: Path, is_broken: NDArray[np.bool_], kept: Path, rejected: Path) -> int:
    conversations = start = 0
    schema = pq.read_schema(source)
    with (
        pq.ParquetFile(source) as parquet,
        TableWriter(kept, schema) as writer,
        TableWriter(rejected, schema) as rejected_writer,
    ):
        for batch in parquet.iter_batches(BATCH_ROWS):
            mask = pa.array(is_broken[start : start + batch.num_rows])
            rest = batch.filter(pc.invert(mask))
            writer.add_table(pa.Table.from_batches([rest]))
            rejected_writer.add_table(pa.Table.from_batches([batch.filter(mask)]))
            conversations += int(pc.sum(pc.greater(pc.list_value_length(rest["messages"]), 0)).as_py() or 0)
            start += batch.num_rows
    return conversations


def _summary(checked: Sequence[_Checked]) -> Summary:
    by_contract = {table.boundary: _outcomes(len(table.is_broken), int(table.is_broken.sum())) for table in checked}
    warnings = {table.boundary: warnings_of(table.results) for table in checked}
    details = DocumentsDetails(
        conversations={table.source.stem: table.conversations for table in checked},
        rules=counts_by_rule(breach for table in checked for breach in table.breaches),
        by_contract=by_contract,
        by_source=_by_source(checked),
        warnings={f"{boundary}: {rule}": text for boundary, found in warnings.items() for rule, text in found.items()},
    )
    rows, lost = (sum(counts[name] for counts in by_contract.values()) for name in ("rows_in", "quarantined"))
    return Summary(rows, rows - lost, lost, details=details)


def _outcomes(rows: int, quarantined: int) -> dict[str, int]:
    return {"rows_in": rows, "accepted": rows - quarantined, "quarantined": quarantined}


def _by_source(checked: Iterable[_Checked]) -> dict[str, dict[str, int]]:
    parts = [
        pq.read_table(table.source, columns=["source"]).append_column("broken", [table.is_broken]) for table in checked
    ]
    counted = pa.concat_tables(parts).group_by("source").aggregate([([], "count_all"), ("broken", "sum")])
    most = counted.sort_by([("count_all", "descending"), ("source", "ascending")]).slice(0, MOST_NAMES)
    found = zip(*(most[name].to_pylist() for name in ("source", "count_all", "broken_sum")), strict=True)
    return {str(source): _outcomes(rows, broken) for source, rows, broken in sorted(found, key=str)}
