"""What the files that a recipe names hold: its prompts, the columns of its tables, its models' control tokens."""

from __future__ import annotations

from pathlib import Path

from flows.recipe.recipe import Recipe
from tasks.collect.documents import fields_in
from tasks.core.control_tokens import control_tokens
from tasks.core.prompts import Prompt, read_prompt
from tasks.generate.written_rows import columns_of_rows
from tasks.train.chat_templates import template_marks
from tasks.validate.contracts.rule import ContractContext


def prompts_of(recipe: Recipe) -> list[Prompt]:
    """The prompts that write rows."""
    return [read_prompt(Path(path)) for path in recipe.generate.prompts] if recipe.generate else []


def judges_of(recipe: Recipe) -> list[Prompt]:
    """The prompts that judge rows."""
    return [read_prompt(Path(path)) for path in recipe.generate.judges] if recipe.generate else []


def document_fields(recipe: Recipe) -> tuple[str, ...]:
    """The columns of a document, as prompts and contracts name them."""
    return fields_in(recipe.collect)


def row_fields(recipe: Recipe) -> tuple[str, ...]:
    """The columns of a generated row."""
    return columns_of_rows(document_fields(recipe), prompts_of(recipe))


def control_tokens_of(recipe: Recipe) -> tuple[str, ...]:
    """What data must not contain: the special tokens of base, teacher and chat template.

    A hub model's tokenizer files are downloaded if they are not in the cache.
    """
    teacher = recipe.generate.teacher if recipe.generate else None
    found = {token for model in (recipe.model, teacher) if model for token in control_tokens(model)}
    return tuple(sorted(found | set(template_marks(recipe.train.chat_template))))


def contract_context(recipe: Recipe) -> ContractContext:
    """What the rules of contracts need to know of the recipe."""
    return ContractContext(recipe.model.path, control_tokens_of(recipe), recipe.task.labels)
