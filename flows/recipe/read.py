"""Read a recipe: by name or path, with every mistake located by file and line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from flows.recipe.paths import with_absolute_paths
from flows.recipe.recipe import Recipe
from tasks.collect.config import SOURCE_KINDS
from tasks.core.config import Section
from tasks.core.errors import RecipeError
from tasks.core.home import PROJECT_ROOT
from tasks.core.suggestions import did_you_mean
from tasks.core.yaml_tree import doubled_keys

RECIPES = PROJECT_ROOT / "deployments" / "recipes"


def recipe_path(name: str) -> Path:
    """The file of a recipe: a path, or a name in ``deployments/recipes``.

    Raises:
        RecipeError: there is none; with those there are.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else RECIPES / f"{name}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in RECIPES.glob("*.yaml"))
        raise RecipeError(
            f"There is no recipe {name!r}",
            where=str(path),
            remedy=f"{did_you_mean(name, known)}recipes are: {', '.join(known)}",
        )
    return path.resolve()


def read_recipe(name: str) -> Recipe:
    """Read a recipe by name or path, and make its paths absolute.

    Raises:
        RecipeError: no such recipe, no YAML, an unknown key or a wrong value; with file and line.
    """
    path = recipe_path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"The recipe is not UTF-8: {error}", where=str(path), remedy="save it as UTF-8") from error
    try:
        data = yaml.safe_load(text)
        node = yaml.compose(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"The recipe is no YAML: {error}", where=str(path)) from error
    if not isinstance(data, dict):
        raise RecipeError(
            "The recipe is empty or no mapping", where=str(path), remedy="copy one from deployments/recipes"
        )
    for key in doubled_keys(node):
        raise RecipeError(
            f"The key {key.value!r} stands twice",
            where=f"{path}:{key.start_mark.line + 1}",
            remedy="remove one of the two",
        )
    if "validate" in data:
        data["validate_"] = data.pop("validate")
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise _readable(error, path, node) from error
    return with_absolute_paths(recipe, path.parent)


def _readable(error: ValidationError, path: Path, node: Any) -> RecipeError:
    """The first problem of a recipe in a reader's words, with the line of its key."""
    first = error.errors()[0]
    keys = _keys(first["loc"])
    line = _line_of(node, keys)
    name = ".".join(str(key) for key in keys) or "the recipe"
    others = f" ({error.error_count() - 1} more problems follow)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _known_keys(keys[:-1])
        remedy = f"{did_you_mean(str(keys[-1]), known)}keys here are: {', '.join(known)}"
        return RecipeError(f"Unknown key {name!r}{others}", where=f"{path}:{line}", remedy=remedy)
    message = first["msg"].removeprefix("Value error, ")
    return RecipeError(
        f"{name}: {message}{others}", where=f"{path}:{line}", remedy="docs/recipes.md says what each key takes"
    )


def _keys(place: Sequence[int | str]) -> list[int | str]:
    """The keys of a recipe that lead to a place; pydantic's own names the kind of a source behind its number."""
    keys: list[int | str] = ["validate" if key == "validate_" else key for key in place]
    if keys[:2] == ["collect", "sources"] and len(keys) > 3 and keys[3] in SOURCE_KINDS:
        del keys[3]
    return keys


def _known_keys(keys: list[Any]) -> list[str]:
    """The keys that may stand at a place of a recipe."""
    sections: list[type[Section]] = [Recipe]
    for key in keys:
        if isinstance(key, str):
            name = "validate_" if key == "validate" else key
            fields = [section.model_fields[name] for section in sections if name in section.model_fields]
            sections = [section for field in fields for section in _sections(field.annotation)]
    names = (name for section in sections for name in section.model_fields)
    return list(dict.fromkeys("validate" if name == "validate_" else name for name in names))


def _sections(annotation: Any) -> list[type[Section]]:
    """The sections that a type allows, through unions and tuples."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for inner in get_args(annotation) for section in _sections(inner)]


def _line_of(node: Any, keys: list[Any]) -> int:
    """The line of the innermost key that the YAML tree still has."""
    line = 1
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            found = next((pair for pair in node.value if pair[0].value == str(key)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
    return line
