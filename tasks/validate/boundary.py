"""What the checks at all boundaries share: what determines them, and what is kept of a check that stops the run."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tasks.core.errors import ContractViolation
from tasks.core.files import file_digest
from tasks.core.stage import StageContext
from tasks.validate.checkpoint import RuleResult
from tasks.validate.contracts.rule import ContractContext

DATA_DOCS = "data_docs"
LIBRARIES = ("great-expectations", "pandas", "py3langid", "pyarrow", "tokenizers")
"""Whose versions shape what a contract's rules find."""
TOKENIZER = "tokenizer.json"


def contract_digests(contracts: Mapping[str, str]) -> dict[str, str]:
    """Digests of contract files, for an artifact's key: by boundary."""
    return {f"contract: {boundary}": file_digest(Path(path)) for boundary, path in contracts.items()}


def shaping(context: ContractContext) -> dict[str, Any]:
    """What of a recipe shapes rules, for an artifact's key; of a model folder its tokenizer, not its place."""
    tokenizer = Path(context.model or "", TOKENIZER)
    known = {"model": file_digest(tokenizer)} if context.model and tokenizer.is_file() else {}
    return {**asdict(context), **known}


def reported_only(findings: Iterable[RuleResult]) -> dict[str, str]:
    """What rules of severity warning and info found, by rule: they are reported, and that is all."""
    return {
        finding.rule.name: finding.observed
        for finding in findings
        if finding.rule.severity != "critical" and not finding.success
    }


@contextlib.contextmanager
def kept_if_it_stops(folder: Path, context: StageContext, stage: str) -> Iterator[None]:
    """Keep what a check wrote beside the run's logs when it stops the run: its artifact will not be there."""
    try:
        yield
    except ContractViolation:
        evidence = context.log(stage).with_suffix("")
        shutil.copytree(folder, evidence, dirs_exist_ok=True)
        raise
