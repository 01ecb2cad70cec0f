"""The recipes of a project as its templates and contracts see them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from flows.recipe.paths import CONTRACT_SUFFIX, Project
from flows.recipe.read import read_recipe, recipe_path
from flows.recipe.recipe import Recipe
from tasks.core.config import ModelSource
from tasks.core.errors import PromptError, RetuneError
from tasks.core.findings import Finding
from tasks.core.yaml_tree import Place, find_node, place_of

BOUNDARIES = ("documents", "evaluations", "rows", "training_set")
"""Where a night checks a contract, in its order; the keys of a recipe's ``validate.contracts``."""


@dataclass(frozen=True)
class ProjectRecipe:
    """A recipe, its file and its project."""

    path: Path
    project: Project
    content: Recipe

    @property
    def name(self) -> str:
        return self.content.name

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The fields of its documents."""
        from tasks.collect.documents import fields_in  # slow to import

        return fields_in(self.content.collect)

    @cached_property
    def writers(self) -> tuple[Path, ...]:
        """The templates that write its rows."""
        return tuple(Path(path).resolve() for path in self.content.generate.prompts) if self.content.generate else ()

    @cached_property
    def judges(self) -> tuple[Path, ...]:
        """The templates that judge its rows."""
        return tuple(Path(path).resolve() for path in self.content.generate.judges) if self.content.generate else ()

    @cached_property
    def read_downstream(self) -> frozenset[str]:
        """The fields of its rows that its judges and contracts read."""
        return read_downstream(self.content)

    @property
    def teacher(self) -> ModelSource | None:
        """The model that is started to answer; None where remote servers are asked."""
        generate = self.content.generate
        return None if generate is None or generate.endpoints else generate.teacher or self.content.model

    def contract(self, boundary: str) -> Path:
        """The file of the contract at a boundary."""
        return Path(getattr(self.content.validate_.contracts, boundary))

    def contract_name(self, boundary: str) -> str:
        """The name of a contract of the project, or a path."""
        path = self.contract(boundary)
        return path.name.removesuffix(CONTRACT_SUFFIX) if path.parent == self.project.contracts else str(path)

    def place_of(self, boundary: str) -> Place:
        """Line and column of a contract's name in the recipe, or of the section that leaves it out."""
        tree = yaml.compose(self.path.read_text(encoding="utf-8"), yaml.SafeLoader)
        return find_node(tree, ("validate", "contracts", boundary))[0]

    def names(self, template: Path) -> bool:
        """Whether it uses a template."""
        return template.resolve() in {*self.writers, *self.judges}


def read_project_recipe(name: str, project: Project) -> ProjectRecipe:
    """Read a recipe by name or path. Raises RetuneError: there is none, or it is malformed."""
    return ProjectRecipe(recipe_path(name, project), project, read_recipe(name, project))


def read_recipes(project: Project, files: Iterable[Path] = ()) -> tuple[list[ProjectRecipe], list[Finding]]:
    """The project's recipes, and a warning for each that cannot be read.

    Also those in the working folder, and in the folder of each of ``files``, the folder above it and the folders beside
    it, if they name the file.
    """
    found: list[ProjectRecipe] = []
    unreadable: list[Finding] = []
    own = sorted(project.recipes.glob("*.yaml"))
    for path in dict.fromkeys([*own, *(path for file in files for path in _recipes_that_name(file, {*own}))]):
        try:
            found.append(read_project_recipe(str(path), project))
        except RetuneError as error:
            line = error.where.removeprefix(f"{path.resolve()}:")
            what = f"The recipe cannot be read: {error.what}"
            remedy = f"{error.remedy}; until then its templates and contracts are not checked for it"
            place = (int(line) if line.isdigit() else 1, 1)
            unreadable.append(Finding("recipe", what, str(path), *place, remedy, "warning"))
    return found, unreadable


def _recipes_that_name(file: Path, known: Collection[Path]) -> Iterator[Path]:
    folder, name = file.resolve().parent, file.name.partition(".")[0]
    above = folder.parent
    candidates = [*Path.cwd().glob("*.y*ml"), *folder.glob("*.y*ml"), *above.glob("*.y*ml")]
    if above != above.parent:  # not the root of the file system
        candidates += above.glob("*/*.y*ml")
    for path in sorted({candidate.resolve() for candidate in candidates} - {one.resolve() for one in known}):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = path.read_text(encoding="utf-8")
            is_named = re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)
            if is_named and all(re.search(rf"^{key}:", text, re.MULTILINE) for key in ("collect", "train")):
                yield path


def read_downstream(recipe: Recipe) -> frozenset[str]:
    """The fields of generated rows that the recipe's judges and contracts read, as far as these can be read."""
    from tasks.core.prompts import check_prompt

    contracts = recipe.validate_.contracts
    fields = [*contract_columns_of(Path(contracts.rows)), *contract_columns_of(Path(contracts.training_set))]
    for path in recipe.generate.judges if recipe.generate else ():
        with contextlib.suppress(PromptError):
            judge, _ = check_prompt(Path(path))
            fields += judge.head.document_fields if judge else ()
    return frozenset(fields)


def contract_columns_of(path: Path) -> dict[str, Place]:
    """The columns that a contract's first table names, and where; none where it cannot be read, which a run reports."""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    columns: dict[str, Place] = {}
    for table in _items(_value(root, "schema"))[:1]:
        for column in _items(_value(table, "properties")):
            name = _value(column, "name")
            if isinstance(name, yaml.ScalarNode):
                columns[name.value] = place_of(name)
    return columns


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)


def _items(node: yaml.Node | None) -> list[yaml.Node]:
    return node.value if isinstance(node, yaml.SequenceNode) else []
