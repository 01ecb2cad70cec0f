"""Errors cross process borders and are read by people."""

from __future__ import annotations

import pickle

import pytest

from tasks.core import errors
from tasks.core.errors import ChildError, RecipeError, RegistryError, RetuneError, ServerError, SourceUnavailable

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


def test_only_lost_children_servers_and_sources_are_worth_a_retry() -> None:
    assert {kind for kind in KINDS if kind.retryable} == {ChildError, ServerError, SourceUnavailable}


def test_errors_are_also_of_the_standard_type_that_fits() -> None:
    assert issubclass(RecipeError, ValueError) and issubclass(RegistryError, LookupError)
