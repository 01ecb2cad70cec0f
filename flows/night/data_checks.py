"""Stop a night as soon as its documents are known to be too few."""

from __future__ import annotations

from flows.recipe.recipe import Recipe
from tasks.collect.config import place_of
from tasks.core import tables
from tasks.core.artifacts import ArtifactRef
from tasks.core.details import CollectDetails, Counts, DocumentsDetails
from tasks.core.errors import ContractViolation, SourceError
from tasks.core.messages import to_messages
from tasks.evaluate.answers import read_conversations
from tasks.train.unusable_rows import check_conversations

LOOKED_AT = 32
"""Held-out conversations that are rendered before anything is generated."""


def require_documents(recipe: Recipe, collected: ArtifactRef) -> None:
    """Stop if no source gave a document: there is nothing to learn from."""
    summary = collected.manifest()["summary"]
    if summary["accepted"]:
        return
    details = collected.details(CollectDetails)
    where = ", ".join(map(place_of, recipe.collect.sources))
    if summary["rows_in"]:
        what = f"None of the {summary['rows_in']} source rows became a document ({_counts(details.rules)})"
        where = str(collected.folder / tables.QUARANTINE)
        remedy = "fix the rows, or correct collect in the recipe"
    elif left_out := details.left_out:
        what = f"collect.where filtered out all {left_out} source rows"
        remedy = "correct collect.where in the recipe"
    else:
        what = "The sources are empty: they have no rows, at most a header"
        remedy = "find out why nothing was written to them, or correct collect.sources in the recipe"
    raise SourceError(what, where=where, remedy=remedy)


def require_holdout(recipe: Recipe, collected: ArtifactRef, documents: ArtifactRef) -> None:
    """Stop before a model is started if the holdout is too small for the gate to decide anything.

    Held-out documents of replay sources are not asked, and do not count.
    """
    rows = documents.details(DocumentsDetails).conversations["holdout"]
    if replay := recipe.train.mix.replay:
        rows -= read_conversations(documents.folder / tables.HOLDOUT, None, replay)[1]
    needed = recipe.evaluate.gate.minimum_rows
    if rows < needed:
        without = " without those of replay sources" if replay else ""
        raise ContractViolation(
            f"The holdout has {rows} conversations{without}, and the gate needs {needed}",
            where="evaluate.gate.minimum_rows",
            remedy=_what_was_lost(collected, collected.details(CollectDetails).rules)
            + _what_was_lost(documents, documents.details(DocumentsDetails).rules)
            + "collect more documents, or raise collect.holdout_fraction before the first night",
        )


def require_trainable(recipe: Recipe, documents: ArtifactRef) -> None:
    """Stop before a model is started if the chat template supports none of the conversations.

    Looks at held-out ones, and at one of the task's form if rows are generated.
    """
    holdout, _ = read_conversations(documents.folder / tables.HOLDOUT, LOOKED_AT)
    conversations = list(zip(holdout["messages"], holdout["tools"], strict=True))
    if recipe.generate:
        row = dict.fromkeys(filter(None, (recipe.task.input, recipe.task.output, recipe.task.context)), "text")
        conversations.append((to_messages(recipe.task, row), None))
    check_conversations(recipe.model, recipe.train, conversations, str(documents.folder / tables.HOLDOUT))


def _what_was_lost(artifact: ArtifactRef, rules: Counts) -> str:
    summary = artifact.manifest()["summary"]
    if summary["quarantined"] * 2 < summary["rows_in"] or not summary["quarantined"]:
        return ""
    lost = f"{summary['quarantined']} of {summary['rows_in']} rows ({_counts(rules)})"
    file = artifact.folder / tables.QUARANTINE
    return f"fix this first: {artifact.stage} quarantined {lost}, see {file}; "


def _counts(rules: Counts) -> str:
    return ", ".join(f"{rule} {count}" for rule, count in rules.items())
