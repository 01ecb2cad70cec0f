"""Find what is wrong with a recipe and the files that it names before anything starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flows.recipe.named_files import contract_context, document_fields, judges_of, prompts_of, row_fields
from flows.recipe.recipe import Recipe
from tasks.collect.config import FileSource
from tasks.collect.records import ReaderSettings
from tasks.collect.sources import check_columns
from tasks.core import tables
from tasks.core.errors import PromptError, RecipeError
from tasks.core.home import Home
from tasks.core.merging.trained import require_own_head
from tasks.core.models import check_model, has_chat_template, model_family
from tasks.core.prompts import Prompt
from tasks.core.suggestions import did_you_mean
from tasks.core.vllm.server import LORA_RANKS, vllm_python
from tasks.train.chat_templates import check_chat_template
from tasks.train.config import device_refusals
from tasks.train.devices import devices_present, training_device
from tasks.train.resource_checks import check_target_modules
from tasks.validate.check_training_set import read_drift_contract
from tasks.validate.contamination.evaluation_sets import read_evaluation_sets
from tasks.validate.contracts.columns import contract_columns, document_columns
from tasks.validate.contracts.contract import read_contract

Problem = tuple[str, str]
"""What is wrong in a recipe, and the remedy."""


def check_recipe(recipe: Recipe) -> None:
    """Check sources, models, prompts, judges, contracts, evaluation sets and the task's fields.

    Raises RetuneError: a missing source or column, a broken prompt or contract, an incomplete model, no vLLM.
    """
    collect = recipe.collect
    check_columns(collect, ReaderSettings(Home.from_environment().snapshots, collect.max_field_bytes))
    check_model(recipe.model)
    if recipe.generate and recipe.generate.teacher:
        check_model(recipe.generate.teacher)
    _check_prompts(recipe)
    _check_contracts(recipe)
    read_evaluation_sets(recipe.validate_.contamination)
    _raise_first(recipe, _problems_of_task(recipe))
    _check_training(recipe)
    vllm_python()


def _raise_first(recipe: Recipe, problems: Iterator[Problem]) -> None:
    for what, remedy in problems:
        raise RecipeError(what, where=recipe.name, remedy=remedy)


def _check_prompts(recipe: Recipe) -> None:
    prompts = prompts_of(recipe)
    _raise_first(recipe, _doubled_names(prompts))
    for prompt in prompts:
        if prompt.head.judge is not None:
            raise PromptError(
                "A prompt with a judge section judges rows; generate.prompts write them",
                where=str(prompt.path),
                remedy=f"name it under generate.judges: [{prompt.name}]",
            )
        _check_fields(prompt, document_fields(recipe))
    fields = row_fields(recipe)
    for judge in judges_of(recipe):
        if judge.head.judge is None:
            raise PromptError(
                "A prompt named in generate.judges has no judge section",
                where=str(judge.path),
                remedy="add what passes, such as judge: {accept: '^yes'} with sampling.temperature 0",
            )
        _check_fields(judge, (*fields, "raw"))
    _raise_first(recipe, _taken_names(fields))


def _doubled_names(prompts: list[Prompt]) -> Iterator[Problem]:
    names = [prompt.name for prompt in prompts]
    for name in names:
        if names.count(name) > 1:
            what = f"Two of generate.prompts have the name {name!r}: their rows would have the same ids"
            yield what, "name each prompt once; rows_per_document in the prompt's file asks for more rows"


def _taken_names(fields: tuple[str, ...]) -> Iterator[Problem]:
    for name in fields:
        if name in tables.GENERATED:
            what = f"The field {name!r} has the name of a column that every generated row has"
            yield what, "give the field, the sampler or the output's property another name"


def _check_fields(prompt: Prompt, known: tuple[str, ...]) -> None:
    for field in prompt.head.document_fields:
        if field not in (*known, "document_id"):
            raise PromptError(
                f"The prompt reads {field!r}, which is not a field of the recipe's rows",
                where=str(prompt.path),
                remedy=f"{did_you_mean(field, known)}fields are: {', '.join(known)}",
            )


def _check_contracts(recipe: Recipe) -> None:
    contracts, context = recipe.validate_.contracts, contract_context(recipe)
    documents, rows = document_columns(document_fields(recipe)), contract_columns(row_fields(recipe))
    columns = {"documents": documents, "rows": rows, "training_set": rows, "evaluations": documents}
    for boundary, path in contracts:
        read_contract(Path(path), columns[boundary], context=context)
    read_drift_contract(Path(contracts.training_set))


def _problems_of_task(recipe: Recipe) -> Iterator[Problem]:
    fields, task = row_fields(recipe), recipe.task
    if not recipe.generate and not any(recipe.collect.columns_of(source) for source in recipe.collect.sources):
        return  # the fields of each row are those of its form
    for role, field in {"input": task.input, "output": task.output, "context": task.context}.items():
        if field is not None and field not in fields:
            remedy = f"map a column to it in collect.columns; fields are: {', '.join(fields) or 'none'}"
            yield f"task.{role} names the field {field!r}, which no document has", did_you_mean(field, fields) + remedy


def _check_training(recipe: Recipe) -> None:
    """Refuse what this machine's device or the base model cannot do; a hub model is examined when it is loaded."""
    train = recipe.train
    if train.chat_template == "model" and recipe.model.is_local and not has_chat_template(recipe.model):
        raise RecipeError(
            "The base model has no chat template of its own",
            where=f"{recipe.model.path}/tokenizer_config.json",
            remedy="set train.chat_template: chatml, llama3 or alpaca; or name an instruction-tuned model",
        )
    check_chat_template(recipe.model, train.chat_template)
    check_target_modules(recipe.model, train)
    _raise_first(recipe, _problems_of_training(recipe))
    if train.training_method.adds_virtual_tokens:
        require_own_head(model_family(recipe.model), recipe.name)


def _problems_of_training(recipe: Recipe) -> Iterator[Problem]:
    train = recipe.train
    for refusal in device_refusals(train, training_device(devices_present()).kind):
        yield f"train: {refusal}", "docs/training.md says what runs where"
    if train.rows == "control" and not recipe.validate_.control:
        what = "train.rows is control, and the validate stage keeps no control rows"
        yield what, "set validate.control: true, or train.rows: training_set"
    # PiSSA's adapter is written with twice the rank; one with magnitudes or biases is served as a whole model.
    served, most = train.rank * (2 if train.init_weights == "pissa" else 1), LORA_RANKS[-1]
    if train.training_method.is_low_rank and not train.use_dora and train.bias == "none" and served > most:
        what = f"The trained adapter would have rank {served}, and vLLM serves adapters up to rank {most}"
        yield what, "lower train.rank, or use method full"
    yield from _problems_of_mix(recipe)


def _problems_of_mix(recipe: Recipe) -> Iterator[Problem]:
    sources, mix = recipe.collect.sources, recipe.train.mix
    absent = {"generated": recipe.generate is None, "collected": not recipe.validate_.include_collected}
    for group, share in mix.shares.items():
        if share and absent.get(group):
            what = f"train.mix.shares asks for {group} rows, and this recipe does not train on any"
            yield what, "change the shares; or add a generate section, or validate.include_collected: true"
    files = [Path(source.path) for source in sources if isinstance(source, FileSource) and source.name is None]
    known = {source.name for source in sources if source.name} | {file.name for file in files if file.is_file()}
    if len(known) < len(sources):
        return  # the names in folders and remote sources are known at training only
    for key, names in (("replay", mix.replay), ("source_weights", tuple(mix.source_weights))):
        for name in names:
            if name not in known and name.partition("/")[0] not in known:
                what = f"train.mix.{key} names {name!r}, and no source has that name"
                yield what, f"{did_you_mean(name, known)}sources are: {', '.join(sorted(known))}"
