"""Stop a failing generation early."""

from __future__ import annotations

from collections import Counter

from tasks.core.answer_store import Answer
from tasks.core.errors import GenerationError
from tasks.core.home import Home, recipe_of_night

LEAST_ANSWERS = 50
COMMONEST = 5
SHOWN = 2
SHOWN_CHARACTERS = 300


class Failures:
    """Counts first answers of rows and the rules they break, over the whole stage, reused answers included."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self.answers = self.broken = 0
        self._reasons: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._raw: list[str] = []

    def count(self, answer: Answer, rule: str | None) -> None:
        """Count an answer and the rule that it breaks, or None."""
        self.answers += 1
        if rule is None:
            return
        self.broken += 1
        reason, _, example = rule.partition(":")
        self._reasons[reason] += 1
        self._examples.setdefault(reason, example.strip())
        if answer.text and len(self._raw) < SHOWN:
            self._raw.append(answer.text)

    def check(self) -> None:
        """Raise GenerationError if too large a share broke a rule, once there are enough answers."""
        if self.answers < LEAST_ANSWERS or self.broken <= self._limit * self.answers:
            return
        reasons = "\n".join(
            f"    {count} x {reason}"
            + (f" ({self._examples[reason][:SHOWN_CHARACTERS]})" * bool(self._examples[reason]))
            for reason, count in self._reasons.most_common(COMMONEST)
        )
        raw = "\n".join(f"    {text[:SHOWN_CHARACTERS]!r}" for text in self._raw) or "    (the answer was empty)"
        raise GenerationError(
            f"{self.broken} of the first {self.answers} answers cannot be used; the limit is {self._limit:.0%}."
            f"\n  most frequent reasons, each with an example:\n{reasons}\n  raw answers:\n{raw}",
            where="generate.failure_limit",
            remedy="check prompt and teacher: "
            + Home.from_environment().command("prompts", "preview", "NAME", "--run", recipe=recipe_of_night()),
        )
