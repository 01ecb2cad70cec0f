"""Errors cross process borders and are read by people."""

from __future__ import annotations

import pickle

import pytest

from tasks.core import errors
from tasks.core.errors import (
    ChildError,
    PromptError,
    RecipeError,
    RegistryError,
    RetuneError,
    ServerError,
    SourceUnavailable,
    joined,
)

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RetuneError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_survives_pickling_with_its_parts(kind: type[RetuneError]) -> None:
    copy = pickle.loads(pickle.dumps(kind("It failed", where="recipe.yaml:3", remedy="mend it")))
    assert type(copy) is kind
    assert (copy.what, copy.where, copy.remedy) == ("It failed", "recipe.yaml:3", "mend it")


def test_the_message_has_a_line_for_each_part_that_is_there() -> None:
    assert str(RecipeError("It failed", where="a.yaml:3", remedy="mend it")).splitlines() == [
        "It failed",
        "  where:  a.yaml:3",
        "  remedy: mend it",
    ]
    assert str(RecipeError("It failed")) == "It failed"


def test_of_several_errors_the_first_is_raised_and_the_others_are_listed_also_after_pickling() -> None:
    error = joined([RecipeError("One", where="a"), PromptError("Two", remedy="mend it"), ChildError("Three")])
    assert type(error) is RecipeError and error.what == "One"
    for copy in (error, pickle.loads(pickle.dumps(error))):
        assert str(copy).splitlines() == ["One", "  where:  a", "also: Two", "  remedy: mend it", "also: Three"]
    many = joined(RecipeError(str(number)) for number in range(100))
    assert str(many).endswith("also: 20\nand 79 more")


def test_only_lost_children_servers_and_sources_are_worth_a_retry() -> None:
    assert {kind for kind in KINDS if kind.retryable} == {ChildError, ServerError, SourceUnavailable}


def test_errors_are_also_of_the_standard_type_that_fits() -> None:
    assert issubclass(RecipeError, ValueError) and issubclass(RegistryError, LookupError)
