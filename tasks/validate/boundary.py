"""What the checks of all boundaries share: their artifact keys, their warnings, and files that survive a stop."""

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
"""Their versions are part of an artifact's key: they determine what rules find."""
TOKENIZER = "tokenizer.json"


def contract_digests(contracts: Mapping[str, str]) -> dict[str, str]:
    """Digests of contract files by boundary, for an artifact's key."""
    return {f"contract: {boundary}": file_digest(Path(path)) for boundary, path in contracts.items()}


def context_key(context: ContractContext) -> dict[str, Any]:
    """What rules read from a recipe, for an artifact's key; a local model counts by its tokenizer, not by its path."""
    tokenizer = Path(context.model or "", TOKENIZER)
    known = {"model": file_digest(tokenizer)} if context.model and tokenizer.is_file() else {}
    return {**asdict(context), **known}


def warnings_of(results: Iterable[RuleResult]) -> dict[str, str]:
    """What broken rules of severity warning and info observed, by rule."""
    return {
        result.rule.name: result.observed
        for result in results
        if result.rule.severity != "critical" and not result.success
    }


@contextlib.contextmanager
def kept_if_it_stops(folder: Path, context: StageContext, stage: str) -> Iterator[None]:
    """Copy a check's files to the run's logs if it stops the run, since there will be no artifact."""
    try:
        yield
    except ContractViolation:
        shutil.copytree(folder, context.log(stage).with_suffix(""), dirs_exist_ok=True)
        raise
