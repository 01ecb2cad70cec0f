"""The shape of Retune's own expectations: plain functions on a column's values, with typed arguments.

What each check says about single values is in the modules of this package, one a family; ``registry`` lists them, and
``classes`` makes expectations of Great Expectations out of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Mask = NDArray[np.bool_]
Share = Annotated[float, Field(ge=0, le=1)]


class Arguments(BaseModel):
    """The arguments of one check, beside ``column``, ``mostly`` and what else every expectation takes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    from_recipe: ClassVar[Mapping[str, str]] = {}
    """Arguments that a recipe knows, where the contract leaves them out: argument -> field of ``ContractContext``."""


@dataclass(frozen=True)
class RowCheck:
    """A check that names the rows that break it.

    Attributes:
        name: the expectation's snake-case name.
        arguments: their types and bounds.
        failing: (values, arguments) -> one bool a value, True where it breaks the rule. Missing values (None, NaN)
            never do: whether a value must be there is another rule. The index of the series does not matter.
        sentence: (arguments) -> what must hold, to be read behind the column's name: "values must not be refusals".
    """

    name: str
    arguments: type[Arguments]
    failing: Callable[[pd.Series[Any], Any], Mask]
    sentence: Callable[[Any], str]


@dataclass(frozen=True)
class Observation:
    """What a check on a whole column found.

    Attributes:
        success: whether it holds.
        observed: what it saw, for people.
        details: the numbers behind it, for the result's ``details``.
    """

    success: bool
    observed: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TableCheck:
    """A check on a column as a whole: it can say that something is wrong, not which rows.

    Attributes:
        name, arguments, sentence: as in :class:`RowCheck`.
        observe: (values, arguments) -> what it found.
    """

    name: str
    arguments: type[Arguments]
    observe: Callable[[pd.Series[Any], Any], Observation]
    sentence: Callable[[Any], str]
