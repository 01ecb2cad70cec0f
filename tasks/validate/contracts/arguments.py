"""Find everything that is wrong with the arguments of a rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from tasks.validate.contracts.expectations.catalogue import from_recipe, what_is_wrong
from tasks.validate.contracts.rule import Fault
from tasks.validate.contracts.vacuous_rules import why_vacuous

CODES = {"regex": "regex", "mostly": "bad-range", "min": "bad-range", "max": "bad-range"}
"""Codes of faults, by the beginning of the argument's name; the others are ``arguments``."""


def faults_of_arguments(expectation: str, arguments: Mapping[str, Any]) -> Iterator[Fault]:
    """Everything that is wrong with a rule's arguments; if nothing is, why the rule decides nothing."""
    left = dict(arguments)
    while problem := what_is_wrong(expectation, left):
        argument = next((name for name in left if problem.startswith(name) or f"argument {name!r}" in problem), None)
        if argument is None and len(left) < len(arguments):
            return  # the problem may be about an argument that was left out
        code = next((code for start, code in CODES.items() if problem.startswith(start)), "arguments")
        yield Fault(code, f"{expectation}: {problem}", _remedy(problem, expectation), argument)
        if argument is None:
            return
        del left[argument]
    if len(left) == len(arguments) and (vacuous := why_vacuous(expectation, arguments)):
        yield replace(vacuous, what=f"{expectation}: {vacuous.what}")


def _remedy(problem: str, expectation: str) -> str:
    if "finite" in problem:
        return "write a number, or leave it out for no bound"
    missing = next((name for name in from_recipe(expectation) if f"{name!r} is missing" in problem), None)
    return f"write {missing} in kwargs; in a night, a recipe gives it" if missing else "correct kwargs"
