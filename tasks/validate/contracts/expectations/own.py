"""The types of Retune's own expectations: plain functions on a column's values, with typed arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import pandas as pd

Mask = NDArray[np.bool_]
Share = Annotated[float, Field(ge=0, le=1)]


class Arguments(BaseModel):
    """The arguments of one check, without those that every expectation takes (``column``, ``mostly``, ...)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    from_recipe: ClassVar[Mapping[str, str]] = {}
    """Arguments that the recipe gives where the contract omits them: argument -> field of ``ContractContext``."""


@dataclass(frozen=True)
class RowCheck:
    """A check that names the rows that break it.

    ``failing`` maps (values, arguments) to one bool per value, True where it breaks the rule. A missing value (None,
    NaN)
    never does: another rule requires values. The index of the series does not matter. ``sentence`` maps arguments to
        what
    must hold, to follow the column's name: "values must not be refusals".
    """

    name: str
    arguments: type[Arguments]
    failing: Callable[[pd.Series[Any], Any], Mask]
    sentence: Callable[[Any], str]


@dataclass(frozen=True)
class Observation:
    """What a check on a whole column found: whether it holds, a text for people, and the numbers for ``details``."""

    success: bool
    observed: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TableCheck:
    """A check on a column as a whole; ``observe`` maps (values, arguments) to what it found."""

    name: str
    arguments: type[Arguments]
    observe: Callable[[pd.Series[Any], Any], Observation]
    sentence: Callable[[Any], str]
