"""Regular expressions from prompts, run on model output within a time limit: ``^(a+)+$`` can take years."""

from __future__ import annotations

SECONDS = 1.0
"""For one pattern on one text; a sound pattern takes microseconds."""


def check_pattern(pattern: str) -> None:
    """Compile a pattern. Raises ValueError: it is not a regular expression."""
    import regex

    try:
        regex.compile(pattern, regex.V0)
    except (regex.error, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from error


def matches(pattern: str, text: str, *, any_case: bool = False) -> bool:
    """Whether a pattern matches anywhere in a text. Raises TimeoutError: the search took more than a second."""
    import regex

    try:
        found = regex.search(pattern, text, regex.V0 | (regex.IGNORECASE if any_case else 0), timeout=SECONDS)
    except TimeoutError as error:
        raise TimeoutError(f"the pattern {pattern!r} takes more than {SECONDS:g} s on it") from error
    return found is not None
