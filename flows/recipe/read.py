"""Read a recipe by name or path; each mistake is reported with its file and line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from flows.recipe.paths import Project, with_absolute_paths
from flows.recipe.recipe import Recipe
from tasks.collect.config import SOURCE_KINDS
from tasks.core.config import Section
from tasks.core.errors import RecipeError, joined
from tasks.core.suggestions import did_you_mean
from tasks.core.yaml_texts import quote_fault, unquoted
from tasks.core.yaml_tree import doubled_keys, find_node, yaml_fault


def recipe_path(name: str, project: Project | None = None) -> Path:
    """The file of a recipe: a path, or a name in ``deployments/recipes``.

    Raises RecipeError: there is none; the error lists those that exist.
    """
    folder = (project or Project()).recipes
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in folder.glob("*.yaml"))
        remedy = f"{did_you_mean(name, known)}recipes are: {', '.join(known)}"
        raise RecipeError(f"There is no recipe {name!r}", where=str(path), remedy=remedy)
    return path.resolve()


def read_recipe(name: str, project: Project | None = None) -> Recipe:
    """Read a recipe by name or path, and make its paths absolute.

    ``project``: where recipes, prompts and contracts are found by name; None: this one. Raises RecipeError: no such
    recipe, not valid YAML, an unknown key or a wrong value; with file and line.
    """
    path = recipe_path(name, project)
    try:
        text = path.read_text(encoding="utf-8")
        data, tree = yaml.safe_load(text), yaml.compose(text, yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise RecipeError(f"The recipe is not UTF-8: {error}", where=str(path), remedy="save it as UTF-8") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: a date such as 2026-02-31
        what, (line, column), remedy = yaml_fault(text, error)
        where = f"{path}:{line}:{column}"
        raise RecipeError(f"The recipe is not valid YAML: {what}", where=where, remedy=remedy) from error
    if not isinstance(data, dict):
        remedy = "copy one from deployments/recipes"
        raise RecipeError("The recipe is empty or not a mapping", where=str(path), remedy=remedy)
    for key in doubled_keys(tree):
        where = f"{path}:{key.start_mark.line + 1}"
        raise RecipeError(f"The key {key.value!r} appears twice", where=where, remedy="remove one of the two")
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        not_text, others = unquoted(tree, error.errors())
        faults = [_readable(problem, path, tree) for problem in others]
        if not_text:
            what, (line, _), remedy = quote_fault(not_text)
            faults.insert(0, RecipeError(what, where=f"{path}:{line}", remedy=remedy))
        raise joined(faults) from error
    project = project or Project()
    is_named = path.parent == project.recipes.resolve() and path.suffix == ".yaml"
    named = recipe.referred_to_as(path.stem if is_named else str(path))
    return with_absolute_paths(named, path.parent, project)


def _readable(problem: ErrorDetails, path: Path, tree: yaml.Node | None) -> RecipeError:
    """A problem of a recipe in a reader's words, with the line of its key."""
    keys = _keys(problem["loc"])
    where = f"{path}:{find_node(tree, keys)[0][0]}" if keys else f"{path}:1"
    name = ".".join(map(str, keys)) or "the recipe"
    if problem["type"] == "extra_forbidden":
        known = _known_keys(keys[:-1])
        remedy = f"{did_you_mean(str(keys[-1]), known)}keys here are: {', '.join(known)}"
        return RecipeError(f"Unknown key {name!r}", where=where, remedy=remedy)
    message = problem["msg"].removeprefix("Value error, ")
    return RecipeError(f"{name}: {message}", where=where, remedy="docs/recipes.md says what each key takes")


def _keys(place: Sequence[int | str]) -> list[int | str]:
    """The keys of a recipe that lead to a place; Pydantic adds the kind of a source after its number."""
    keys = list(place)
    if keys[:2] == ["collect", "sources"] and len(keys) > 3 and keys[3] in SOURCE_KINDS:
        del keys[3]
    return keys


def _known_keys(keys: Sequence[int | str]) -> list[str]:
    sections: list[type[Section]] = [Recipe]
    for key in keys:
        if isinstance(key, str):
            fields = [field for section in sections for name, field in _fields(section).items() if name == key]
            sections = [inner for field in fields for inner in _sections(field.annotation)]
    return list(dict.fromkeys(name for section in sections for name in _fields(section)))


def _fields(section: type[Section]) -> dict[str, Any]:
    return {field.alias or name: field for name, field in section.model_fields.items()}


def _sections(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for inner in get_args(annotation) for section in _sections(inner)]
