"""The folders of a project, and the paths of a recipe made absolute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.recipe.recipe import Recipe
from tasks.collect.config import DatasetInfoSource, FileSource, HubSource, Source, SqlSource
from tasks.core.config import ModelSource
from tasks.core.home import PROJECT_ROOT, Home
from tasks.core.prompts import SUFFIX
from tasks.core.public_models import PUBLIC_MODELS, folder_of
from tasks.validate.config import ValidateConfig

CONTRACT_SUFFIX = ".odcs.yaml"


class Project:
    """Where a project keeps its recipes, prompts and contracts."""

    def __init__(self, root: Path = PROJECT_ROOT) -> None:
        self.root = root
        self.recipes = root / "deployments" / "recipes"
        self.prompts, self.contracts = root / "prompts", root / "data_contracts"


def with_absolute_paths(recipe: Recipe, folder: Path, project: Project) -> Recipe:
    """The recipe with absolute paths.

    ``folder``: of the recipe's file: its relative paths begin there. ``project``: where prompts and contracts are found
    by name.
    """
    sources = tuple(_source(source, folder) for source in recipe.collect.sources)
    update: dict[str, Any] = {
        "model": _model(recipe.model, folder),
        "collect": recipe.collect.model_copy(update={"sources": sources}),
        "validate_": _validate(recipe.validate_, folder, project),
    }
    if (generate := recipe.generate) is not None:
        update["generate"] = generate.model_copy(
            update={
                "prompts": tuple(_named(name, folder, project.prompts, SUFFIX) for name in generate.prompts),
                "judges": tuple(_named(name, folder, project.prompts, SUFFIX) for name in generate.judges),
                "teacher": _model(generate.teacher, folder) if generate.teacher else None,
                "adapter": _absolute(generate.adapter, folder) if generate.adapter else None,
            }
        )
    return recipe.model_copy(update=update)


def _source(source: Source, folder: Path) -> Source:
    if isinstance(source, FileSource):
        return source.model_copy(update={"path": _absolute(source.path, folder)})
    if isinstance(source, HubSource):
        return source.model_copy(update={"hub": _local(source.hub, folder)})
    if isinstance(source, SqlSource):
        return source.model_copy(update={"sql": _database(source.sql, folder)})
    if isinstance(source, DatasetInfoSource):
        from tasks.collect.dataset_info import resolve  # slow to import

        return resolve(source.model_copy(update={"dataset_info": _absolute(source.dataset_info, folder)}))
    return source


def _database(url: str, folder: Path) -> str:
    """A SQLite file is found relative to the recipe, like every other file."""
    scheme, mark, path = url.partition(":///")
    is_relative = scheme.startswith("sqlite") and mark and path and not path.startswith(("/", "$", "file:"))
    return f"{scheme}:///{_absolute(path, folder)}" if is_relative else url


def _validate(config: ValidateConfig, folder: Path, project: Project) -> ValidateConfig:
    contracts = {at: _named(name, folder, project.contracts, CONTRACT_SUFFIX) for at, name in config.contracts}
    sets = {
        name: exam.model_copy(update={"path": _absolute(exam.path, folder)})
        for name, exam in config.contamination.evaluation_sets.items()
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
    path = _local(source.path, folder)
    if path in PUBLIC_MODELS:
        path = str(folder_of(path, Home.from_environment()))
    return source.model_copy(update={"path": path})


def _named(name: str, folder: Path, project_folder: Path, suffix: str) -> str:
    return _absolute(name, folder) if name.endswith(suffix) else str(project_folder / f"{name}{suffix}")


def _local(path: str, folder: Path) -> str:
    """A folder's path; anything else, such as a hub id, stays as it is."""
    return _absolute(path, folder) if path.startswith((".", "/")) or (folder / path).is_dir() else path


def _absolute(path: str, folder: Path) -> str:
    return str((folder / path).resolve())
