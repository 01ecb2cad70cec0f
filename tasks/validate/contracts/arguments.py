"""What is wrong with the arguments of a rule, one fault after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.validate.contracts.expectations import from_recipe, what_is_wrong
from tasks.validate.contracts.vacuous_rules import what_is_senseless

KINDS = {"regex": "regex", "mostly": "bad-range", "min": "bad-range", "max": "bad-range"}
"""Codes of faults, by how the argument's name begins; others are ``arguments``."""


@dataclass(frozen=True)
class ArgumentFault:
    """One thing wrong with the arguments of a rule.

    Attributes:
        code: ``arguments``, ``regex``, ``bad-range``, ``never-fails`` or ``never-holds``.
        what: one sentence.
        argument: the one that is at fault, if it is one that is there.
        remedy: what to do about it.
    """

    code: str
    what: str
    argument: str | None
    remedy: str


def faults_of_arguments(expectation: str, arguments: Mapping[str, Any]) -> Iterator[ArgumentFault]:
    """All that is wrong; where nothing is, that the rule decides nothing.

    An argument that is at fault is left out for what is wrong with the others.
    """
    left = dict(arguments)
    while problem := what_is_wrong(expectation, left):
        argument = next((name for name in left if problem.startswith(name) or f"argument {name!r}" in problem), None)
        if argument is None and len(left) < len(arguments):
            return  # it may be about what was left out
        code = next((code for start, code in KINDS.items() if problem.startswith(start)), "arguments")
        yield ArgumentFault(code, f"{expectation}: {problem}", argument, _remedy(problem, expectation))
        if argument is None:
            return
        del left[argument]
    senseless = what_is_senseless(expectation, arguments) if len(left) == len(arguments) else None
    if senseless:
        what = f"{expectation}: {senseless.what}"
        yield ArgumentFault(senseless.code, what, senseless.argument, senseless.remedy)


def _remedy(problem: str, expectation: str) -> str:
    if "finite" in problem:
        return "write a number; or leave it out, if there is to be no bound"
    missing = next((name for name in from_recipe(expectation) if f"{name!r} is missing" in problem), None)
    return f"write {missing} in kwargs; in a night, a recipe gives it" if missing else "correct kwargs"
