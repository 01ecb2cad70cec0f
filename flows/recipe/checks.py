"""Find what is wrong with a recipe and the files that it names before anything starts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from flows.recipe.named_files import contract_context, document_fields, judges_of, row_fields
from flows.recipe.project import read_downstream
from flows.recipe.recipe import Recipe
from flows.recipe.task_fit import TaskFit, answers_of
from tasks.collect.config import FileSource
from tasks.collect.records import ReaderSettings
from tasks.collect.sources import check_columns
from tasks.core import tables
from tasks.core.control_tokens import WELL_KNOWN
from tasks.core.errors import ContractError, PromptError, RecipeError, RetuneError, joined
from tasks.core.findings import errors_in
from tasks.core.home import Home
from tasks.core.merging.trained import require_own_head
from tasks.core.model_files import check_adapter_files
from tasks.core.models import check_model, has_chat_template, model_family
from tasks.core.prompts import Prompt, read_prompt
from tasks.core.suggestions import did_you_mean
from tasks.core.vllm.server import LORA_RANKS, vllm_python
from tasks.generate.written_rows import columns_of_rows
from tasks.train.chat_templates import check_chat_template
from tasks.train.config import device_refusals
from tasks.train.devices import devices_present, training_device
from tasks.train.resource_checks import check_target_modules
from tasks.validate.check_training_set import read_drift_contract
from tasks.validate.contamination.evaluation_sets import read_evaluation_sets
from tasks.validate.contracts.columns import contract_columns, document_columns
from tasks.validate.contracts.contract import read_contract
from tasks.validate.contracts.labels import label_findings
from tasks.validate.contracts.rule import ContractContext

Problem = tuple[str, str]
"""What is wrong in a recipe, and the remedy."""
Check = Callable[[Recipe], Iterator[RetuneError]]
"""Yields what is wrong, or raises it."""


def check_recipe(recipe: Recipe) -> None:
    """Check sources, prompts, judges, contracts, evaluation sets, the task's fields, models and the machine.

    Raises RetuneError: a missing source or column, a broken prompt or contract, an incomplete model, no vLLM; one error
    lists all that is wrong.
    """
    of_models = list(_caught(recipe, _models))
    context = _context_without_models if of_models else contract_context
    of_training = () if of_models else _caught(recipe, _training)  # both read the models' files
    _raise_all(chain(_faults_of_data(recipe, context), of_models, of_training, _caught(recipe, _machine)))


def check_data(recipe: Recipe) -> None:
    """The part of :func:`check_recipe` that needs neither a model's files nor a device; raises as it does."""
    _raise_all(_faults_of_data(recipe, _context_without_models))


def _context_without_models(recipe: Recipe) -> ContractContext:
    return ContractContext(recipe.model.path, WELL_KNOWN, recipe.task.labels)


def _raise_all(faults: Iterable[RetuneError]) -> None:
    """Raise one error with all faults, each once: a prompt that cannot be read stops several checks."""
    if found := list({str(fault): fault for fault in faults}.values()):
        raise joined(found)


def _caught(recipe: Recipe, *checks: Check) -> Iterator[RetuneError]:
    for check in checks:
        try:
            yield from check(recipe)
        except RetuneError as error:
            yield error


def _faults_of_data(recipe: Recipe, context: Callable[[Recipe], ContractContext]) -> Iterator[RetuneError]:
    def contracts(recipe: Recipe) -> Iterator[RetuneError]:
        return _contracts(recipe, context(recipe))

    return _caught(recipe, _sources, _prompts, _judges, contracts, _evaluation_sets, _task)


def _sources(recipe: Recipe) -> Iterator[RetuneError]:
    collect = recipe.collect
    check_columns(collect, ReaderSettings(Home.from_environment().snapshots, collect.max_field_bytes))
    yield from ()


def _evaluation_sets(recipe: Recipe) -> Iterator[RetuneError]:
    read_evaluation_sets(recipe.validate_.contamination)
    yield from ()


def _errors(recipe: Recipe, problems: Iterable[Problem]) -> Iterator[RetuneError]:
    return (RecipeError(what, where=recipe.reference, remedy=remedy) for what, remedy in problems)


def _prompts(recipe: Recipe) -> Iterator[RetuneError]:
    fields, used = document_fields(recipe), read_downstream(recipe)
    paths = recipe.generate.prompts if recipe.generate else ()
    prompts = []
    for path in dict.fromkeys(paths):
        try:
            prompt = read_prompt(Path(path))
        except PromptError as error:
            yield error
            continue
        prompts.append(prompt)
        if prompt.head.judge is not None:
            yield PromptError(
                "A prompt with a judge section judges rows; generate.prompts write them",
                where=str(prompt.path),
                remedy=f"name it under generate.judges: [{prompt.name}]",
            )
            continue
        yield from _unknown_fields(prompt, fields)
        fit = TaskFit(prompt.path, prompt.head, prompt.places, recipe.task, used)
        found = errors_in(fit.findings())
        yield from (PromptError(one.what, where=one.where, remedy=one.remedy) for one in found)
    yield from _errors(recipe, chain(_doubled_names(paths), _taken_names(columns_of_rows(fields, prompts))))


def _judges(recipe: Recipe) -> Iterator[RetuneError]:
    fields = row_fields(recipe)
    for judge in judges_of(recipe):
        if judge.head.judge is None:
            yield PromptError(
                "A prompt named in generate.judges has no judge section",
                where=str(judge.path),
                remedy="add what passes, such as judge: {accept: '^yes'} with sampling.temperature 0",
            )
        yield from _unknown_fields(judge, (*fields, "raw"))


def _doubled_names(paths: Sequence[str]) -> Iterator[Problem]:
    names = [Path(path).stem for path in paths]  # of a sound prompt, its name
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            what = f"Two of generate.prompts have the name {name!r}: their rows would have the same ids"
            yield what, "name each prompt once; rows_per_document in the prompt's file asks for more rows"


def _taken_names(fields: tuple[str, ...]) -> Iterator[Problem]:
    for name in fields:
        if name in tables.GENERATED:
            what = f"The field {name!r} has the name of a column that every generated row has"
            yield what, "give the field, the sampler or the output's property another name"


def _unknown_fields(prompt: Prompt, known: tuple[str, ...]) -> Iterator[RetuneError]:
    for field in prompt.head.document_fields:
        if field not in (*known, "document_id"):
            yield PromptError(
                f"The prompt reads {field!r}, which is not a field of the recipe's rows",
                where=str(prompt.path),
                remedy=f"{did_you_mean(field, known)}fields are: {', '.join(known)}",
            )


def _contracts(recipe: Recipe, context: ContractContext) -> Iterator[RetuneError]:
    contracts = recipe.validate_.contracts
    documents = functools.cache(lambda: document_columns(document_fields(recipe)))
    rows = functools.cache(lambda: contract_columns(row_fields(recipe)))
    columns = {"documents": documents, "rows": rows, "training_set": rows, "evaluations": documents}
    for boundary, path in contracts:
        try:
            contract = read_contract(Path(path), columns[boundary](), context=context)
        except (ContractError, PromptError) as error:
            yield error
            continue
        findings = errors_in(label_findings(contract.rules, answers_of(recipe.task), recipe.task.labels))
        yield from (ContractError(one.what, where=f"{one.path}:{one.line}", remedy=one.remedy) for one in findings)
    read_drift_contract(Path(contracts.training_set))


def _task(recipe: Recipe) -> Iterator[RetuneError]:
    return _errors(recipe, chain(_problems_of_task(recipe), _problems_of_labels(recipe)))


def _problems_of_labels(recipe: Recipe) -> Iterator[Problem]:
    labels, collect = recipe.task.labels, recipe.collect
    for source in collect.sources if labels else ():
        column = collect.columns_of(source).get(recipe.task.output)
        for value in collect.where_of(source).get(column or "", ()):
            if value not in labels:
                what = f"collect.where asks for {value!r} in the column {column!r}, and it is not one of task.labels"
                yield what, f"{did_you_mean(value, labels)}labels are: {', '.join(labels)}"


def _problems_of_task(recipe: Recipe) -> Iterator[Problem]:
    fields, task = row_fields(recipe), recipe.task
    if not recipe.generate and not any(recipe.collect.columns_of(source) for source in recipe.collect.sources):
        return  # the fields of each row are those of its form
    for role, field in {"input": task.input, "output": task.output, "context": task.context}.items():
        if field is not None and field not in fields:
            remedy = f"map a column to it in collect.columns; fields are: {', '.join(fields) or 'none'}"
            yield f"task.{role} names the field {field!r}, which no document has", did_you_mean(field, fields) + remedy


def _models(recipe: Recipe) -> Iterator[RetuneError]:
    check_model(recipe.model)
    if recipe.generate and recipe.generate.teacher:
        check_model(recipe.generate.teacher)
    if recipe.generate and recipe.generate.adapter:
        check_adapter_files(Path(recipe.generate.adapter))
    yield from ()


def _training(recipe: Recipe) -> Iterator[RetuneError]:
    """What this machine's device or the base model cannot do; a hub model is examined when it is loaded."""
    train = recipe.train
    yield from _errors(recipe, _problems_of_training(recipe))
    if train.chat_template == "model" and recipe.model.is_local and not has_chat_template(recipe.model):
        raise RecipeError(
            "The base model has no chat template of its own",
            where=f"{recipe.model.path}/tokenizer_config.json",
            remedy="set train.chat_template: chatml, llama3 or alpaca; or name an instruction-tuned model",
        )
    check_chat_template(recipe.model, train.chat_template)
    check_target_modules(recipe.model, train)
    if train.training_method.adds_virtual_tokens:
        require_own_head(model_family(recipe.model), recipe.name)


def _machine(recipe: Recipe) -> Iterator[RetuneError]:
    vllm_python()
    yield from ()


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
