"""Expand ``${NAME}`` in a recipe from the environment, and hide the values in messages."""

from __future__ import annotations

import os
import re
from urllib.parse import quote

from tasks.core.errors import SourceError

VARIABLE = re.compile(r"\$\{(\w+)\}")
SHORTEST_SECRET = 4
"""Shorter values are not secrets, and hiding them would make messages unreadable."""


class Environment:
    """Inserts the values of variables into texts, and removes them from messages."""

    def __init__(self, where: str) -> None:
        self.where = where
        self._values: dict[str, str] = {}

    def expand(self, text: str, *, quoted: bool = False) -> str:
        """The text with every ``${NAME}`` replaced; ``quoted`` percent-encodes the values for a URL."""

        def value_of(match: re.Match[str]) -> str:
            name = match[1]
            value = os.environ.get(name)
            if value is None:
                remedy = f"set {name} where the run starts, or write the value into the recipe if it is not a secret"
                raise SourceError(f"The environment variable {name} is not set", where=self.where, remedy=remedy)
            self._values[name] = value
            return quote(value, safe="") if quoted else value

        return VARIABLE.sub(value_of, text)

    def hide(self, text: str) -> str:
        """The text with every inserted value replaced by its ``${NAME}``, longest first."""
        for name, value in sorted(self._values.items(), key=lambda item: -len(item[1])):
            if len(value) >= SHORTEST_SECRET:
                text = f"${{{name}}}".join(_spellings(value).split(text))
        return text


def _spellings(value: str) -> re.Pattern[str]:
    """Matches a value as any URL may spell it: each character percent-encoded or not, a space as a plus."""
    spelt = (f"(?:{re.escape(one)}|(?i:{re.escape(_encoded(one))}){r'|[+]' * (one == ' ')})" for one in value)
    return re.compile("".join(spelt))


def _encoded(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))
