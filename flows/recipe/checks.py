"""What is wrong with the files that a recipe names, found before anything is started."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tasks.collect.config import FileSource
from tasks.collect.records import ReaderSettings
from tasks.collect.sources import check_columns
from tasks.core import tables
from tasks.core.errors import PromptError, RecipeError
from tasks.core.home import Home
from tasks.core.merging.trained import HEAD_IS_EMBEDDING
from tasks.core.models import check_model, has_chat_template, model_family
from tasks.core.prompts import Prompt
from tasks.core.suggestions import did_you_mean
from tasks.core.vllm.server import LORA_RANKS, vllm_python
from tasks.train.chat_templates import check_chat_template
from tasks.train.config import device_refusals
from tasks.train.devices import devices_present, training_device
from tasks.train.resource_checks import check_target_modules
from tasks.validate.check_training_set import read_drift_contract
from tasks.validate.contamination.evaluation_sets import check_evaluation_sets
from tasks.validate.contracts.columns import contract_columns, document_columns
from tasks.validate.contracts.contract import read_contract

if TYPE_CHECKING:
    from flows.recipe.recipe import Recipe


def check_recipe(recipe: Recipe) -> None:
    """Check sources, models, prompts, judges, contracts, evaluation sets and the task's fields.

    Raises:
        RetuneError: a missing source or column, a broken prompt or contract, an incomplete model, no vLLM.
    """
    _check_sources(recipe)
    _check_prompts(recipe)
    _check_contracts(recipe)
    check_evaluation_sets(recipe.validate_.contamination)
    _check_task(recipe)
    _check_training(recipe)
    vllm_python()


def _check_sources(recipe: Recipe) -> None:
    collect = recipe.collect
    check_columns(collect, ReaderSettings(Home.from_environment().snapshots, collect.max_field_bytes))
    check_model(recipe.model)
    if recipe.generate and recipe.generate.teacher:
        check_model(recipe.generate.teacher)


def _check_prompts(recipe: Recipe) -> None:
    names = [prompt.name for prompt in recipe.prompts]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise RecipeError(
            f"Two of generate.prompts have the name {twice!r}: their rows would have the same ids",
            where=recipe.name,
            remedy="name each once; rows_per_document in the prompt's file asks for more rows",
        )
    for prompt in recipe.prompts:
        _check_prompt(prompt, recipe.fields)
    for judge in recipe.judges:
        _check_judge(judge, recipe.row_fields)
    if taken := [name for name in recipe.row_fields if name in tables.GENERATED]:
        raise RecipeError(
            f"The field {taken[0]!r} has the name of a column that every generated row has",
            where=recipe.name,
            remedy="give the field, the sampler or the output's property another name",
        )


def _check_contracts(recipe: Recipe) -> None:
    contracts, context = recipe.validate_.contracts, recipe.contract_context
    documents, rows = document_columns(recipe.fields), contract_columns(recipe.row_fields)
    columns = {"documents": documents, "rows": rows, "training_set": rows, "evaluations": documents}
    for boundary, path in contracts:
        read_contract(Path(path), columns[boundary], context=context)
    read_drift_contract(Path(contracts.training_set))


def _check_task(recipe: Recipe) -> None:
    fields = recipe.row_fields if recipe.generate else recipe.fields
    mapped = any(recipe.collect.columns_of(source) for source in recipe.collect.sources)
    roles = {"input": recipe.task.input, "output": recipe.task.output, "context": recipe.task.context}
    for role, field in roles.items():
        if field is not None and (mapped or recipe.generate) and field not in fields:
            raise RecipeError(
                f"task.{role} names the field {field!r}, which no document has",
                where=recipe.name,
                remedy=did_you_mean(field, fields)
                + f"map a column to it in collect.columns; fields are: {', '.join(fields) or 'none'}",
            )


def _check_training(recipe: Recipe) -> None:
    """What this machine's device cannot do; a recipe for a GPU is read and planned on any machine.

    And what its base model cannot do, as far as it is here: a hub's tokenizer is looked at when it is loaded.
    """
    if recipe.train.chat_template == "model" and recipe.model.is_local and not has_chat_template(recipe.model):
        raise RecipeError(
            "The base model has no chat template of its own",
            where=f"{recipe.model.path}/tokenizer_config.json",
            remedy="set train.chat_template: chatml, llama3 or alpaca; or name an instruction-tuned model",
        )
    check_chat_template(recipe.model, recipe.train.chat_template)
    check_target_modules(recipe.model, recipe.train)
    device = training_device(devices_present())
    if problem := next(device_refusals(recipe.train, device.kind), None):
        raise RecipeError(f"train: {problem}", where=recipe.name, remedy="docs/training.md says what runs where")
    if recipe.train.rows == "control" and not recipe.validate_.control:
        raise RecipeError(
            "train.rows is control, and the validate stage keeps none",
            where=recipe.name,
            remedy="set validate.control: true, or train.rows: training_set",
        )
    _check_rank(recipe)
    _check_mix(recipe)
    family = model_family(recipe.model)
    if recipe.train.training_method.adds_virtual_tokens and family in HEAD_IS_EMBEDDING:
        raise RecipeError(
            f"A {family} model with virtual tokens cannot be served: its embeddings are its head",
            where=recipe.name,
            remedy="use train.method lora",
        )


def _check_rank(recipe: Recipe) -> None:
    """PiSSA's adapter is written with twice the rank; one with magnitudes or biases is served as a whole model."""
    train = recipe.train
    if not train.training_method.is_low_rank or train.use_dora or train.bias != "none":
        return
    served = train.rank * (2 if train.init_weights == "pissa" else 1)
    if served > LORA_RANKS[-1]:
        raise RecipeError(
            f"The trained adapter would have rank {served}, and vLLM serves adapters up to rank {LORA_RANKS[-1]}",
            where="train.rank",
            remedy="lower train.rank, or use method full",
        )


def _check_mix(recipe: Recipe) -> None:
    """Sources that the mix names must be there; of folders and remote sources without a name, the training knows."""
    sources = recipe.collect.sources
    files = [Path(one.path) for one in sources if isinstance(one, FileSource) and one.name is None]
    known = {one.name for one in sources if one.name} | {file.name for file in files if file.is_file()}
    is_known_later = len(known) < len(sources)
    mix = recipe.train.mix
    absent = {"generated": recipe.generate is None, "collected": not recipe.validate_.include_collected}
    for group, share in mix.shares.items():
        if share and absent.get(group):
            raise RecipeError(
                f"train.mix.shares asks for {group} rows, and this recipe trains on none",
                where=recipe.name,
                remedy="change the shares; or add a generate section, or validate.include_collected: true",
            )
    for key, names in (("replay", mix.replay), ("source_weights", tuple(mix.source_weights))):
        for name in names:
            if name not in known and name.partition("/")[0] not in known and not is_known_later:
                raise RecipeError(
                    f"train.mix.{key} names {name!r}, and no source has that name",
                    where=recipe.name,
                    remedy=f"{did_you_mean(name, known)}sources are: {', '.join(sorted(known))}",
                )


def _check_prompt(prompt: Prompt, known: tuple[str, ...]) -> None:
    if prompt.head.judge is not None:
        raise PromptError(
            "A prompt with a judge section judges rows; generate.prompts write them",
            where=str(prompt.path),
            remedy=f"name it under generate.judges: [{prompt.name}]",
        )
    _check_fields(prompt, known)


def _check_judge(judge: Prompt, row_fields: tuple[str, ...]) -> None:
    if judge.head.judge is None:
        raise PromptError(
            "A prompt named in generate.judges has no judge section",
            where=str(judge.path),
            remedy="add what passes, such as judge: {accept: '^yes'} with sampling.temperature 0",
        )
    _check_fields(judge, (*row_fields, "raw"))


def _check_fields(prompt: Prompt, known: tuple[str, ...]) -> None:
    for field in prompt.head.document_fields:
        if field not in (*known, "document_id"):
            raise PromptError(
                f"The prompt reads {field!r}, which is no field of the recipe's rows",
                where=str(prompt.path),
                remedy=f"{did_you_mean(field, known)}fields are: {', '.join(known)}",
            )
