"""Where the files that a recipe names lie: paths relative to its file, prompts and contracts by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.collect.config import DatasetInfoSource, FileSource, HubSource, Source, SqlSource
from tasks.collect.sources import resolved
from tasks.core.config import ModelSource
from tasks.core.home import PROJECT_ROOT
from tasks.core.prompts import SUFFIX
from tasks.validate.config import ValidateConfig

if TYPE_CHECKING:
    from flows.recipe.recipe import Recipe

PROMPTS = PROJECT_ROOT / "prompts"
CONTRACTS = PROJECT_ROOT / "data_contracts"
CONTRACT_SUFFIX = ".odcs.yaml"


def with_absolute_paths(recipe: Recipe, folder: Path) -> Recipe:
    """The same recipe with paths relative to its file made absolute, and prompts and contracts found by name."""
    sources = tuple(_source(source, folder) for source in recipe.collect.sources)
    update: dict[str, Any] = {
        "model": _model(recipe.model, folder),
        "collect": recipe.collect.model_copy(update={"sources": sources}),
        "validate_": _validate(recipe.validate_, folder),
    }
    if recipe.generate is not None:
        teacher, adapter = recipe.generate.teacher, recipe.generate.adapter
        update["generate"] = recipe.generate.model_copy(
            update={
                "prompts": tuple(_named(name, folder, PROMPTS, SUFFIX) for name in recipe.generate.prompts),
                "judges": tuple(_named(name, folder, PROMPTS, SUFFIX) for name in recipe.generate.judges),
                "teacher": _model(teacher, folder) if teacher else None,
                "adapter": _absolute(adapter, folder) if adapter else None,
            }
        )
    return recipe.model_copy(update=update)


def _source(source: Source, folder: Path) -> Source:
    if isinstance(source, FileSource):
        return source.model_copy(update={"path": _absolute(source.path, folder)})
    if isinstance(source, HubSource):
        return source.model_copy(update={"hub": _local(source.hub, folder)})
    if isinstance(source, DatasetInfoSource):
        return resolved(source.model_copy(update={"dataset_info": _absolute(source.dataset_info, folder)}))
    if isinstance(source, SqlSource):
        return source.model_copy(update={"sql": _database(source.sql, folder)})
    return source


def _database(url: str, folder: Path) -> str:
    """A SQLite file is found relative to the recipe, like every other file."""
    scheme, mark, path = url.partition(":///")
    is_relative = scheme.startswith("sqlite") and mark and path and not path.startswith(("/", "$", "file:"))
    return f"{scheme}:///{_absolute(path, folder)}" if is_relative else url


def _validate(config: ValidateConfig, folder: Path) -> ValidateConfig:
    written = config.contracts.model_dump()
    contracts = {at: _named(name, folder, CONTRACTS, CONTRACT_SUFFIX) for at, name in written.items()}
    sets = {
        name: one.model_copy(update={"path": _absolute(one.path, folder)})
        for name, one in config.contamination.evaluation_sets.items()
    }
    update: dict[str, Any] = {
        "contracts": config.contracts.model_copy(update=contracts),
        "contamination": config.contamination.model_copy(update={"evaluation_sets": sets}),
    }
    if config.same_meaning is not None:
        meaning = _model(config.same_meaning.model, folder)
        update["same_meaning"] = config.same_meaning.model_copy(update={"model": meaning})
    return config.model_copy(update=update)


def _model(source: ModelSource, folder: Path) -> ModelSource:
    return source.model_copy(update={"path": _local(source.path, folder)})


def _named(name: str, folder: Path, home: Path, suffix: str) -> str:
    return _absolute(name, folder) if name.endswith(suffix) else str(home / f"{name}{suffix}")


def _local(path: str, folder: Path) -> str:
    """A folder's path; what names none, such as a hub id, stays as it is."""
    return _absolute(path, folder) if path.startswith((".", "/")) or (folder / path).is_dir() else path


def _absolute(path: str, folder: Path) -> str:
    return str((folder / path).resolve())
