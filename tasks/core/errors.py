"""Typed errors: what failed, where, what to do, and whether a retry can help."""

from __future__ import annotations

from collections.abc import Iterable

MOST_LISTED = 20


class RetuneError(Exception):
    """Base of every error that Retune raises on purpose: what failed, where (file, line, key or row), what to do.

    ``others``: lesser or later errors of the same check, which the message lists below the first.
    """

    retryable = False
    others: tuple[RetuneError, ...] = ()

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(what, where, remedy)
        self.what, self.where, self.remedy = what, where, remedy

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.remedy, self.others)

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where:  {self.where}")
        if self.remedy:
            lines.append(f"  remedy: {self.remedy}")
        lines += [f"also: {other}" for other in self.others[:MOST_LISTED]]
        if len(self.others) > MOST_LISTED:
            lines.append(f"and {len(self.others) - MOST_LISTED} more")
        return "\n".join(lines)


def _rebuild(
    kind: type[RetuneError], what: str, where: str, remedy: str, others: tuple[RetuneError, ...]
) -> RetuneError:
    error = kind(what, where=where, remedy=remedy)
    error.others = others
    return error


def joined(errors: Iterable[RetuneError]) -> RetuneError:
    """The first of at least one error, with the others in its message."""
    first, *others = errors
    first.others += tuple(others)
    return first


class RecipeError(RetuneError, ValueError):
    """A recipe cannot be read or asks for something impossible."""


class PromptError(RetuneError, ValueError):
    """A prompt template is malformed or cannot be rendered."""


class ContractError(RetuneError, ValueError):
    """A data contract is malformed or names what does not exist."""


class SourceError(RetuneError, ValueError):
    """A source of documents is missing or does not match its mapping."""


class SourceUnavailable(SourceError):
    """A source of documents does not answer now; a retry can help."""

    retryable = True


class GenerationError(RetuneError):
    """Generation stopped: too many rows failed, or too few were written."""


class EvaluationError(RetuneError):
    """The evaluation stopped for a reason that a retry would repeat."""


class ContractViolation(RetuneError):
    """The data as a whole breaks its contract, or too little of it is left."""


class ModelError(RetuneError, ValueError):
    """A model folder is incomplete, or the model cannot be used as asked."""


class NotFinite(RetuneError, ValueError):
    """A figure that is to be stored is NaN or infinite."""


class TrainingError(RetuneError):
    """Training stopped for a reason that a retry does not remove."""


class MemoryShortage(RetuneError):
    """The memory of the machine or of its GPU is too small; a smaller batch can help."""


class MachineError(RetuneError):
    """The machine lacks something: an environment, a free port, disk space."""


class ChildError(RetuneError):
    """A child process died or exceeded its time limit; a restart can help."""

    retryable = True


class WorkerError(RetuneError):
    """A child process failed with an unexpected error, which a retry would repeat."""


class StageTimeout(RetuneError):
    """A stage exceeded its time limit in the recipe."""


class ServerError(RetuneError):
    """The model server stopped answering; a restart can help."""

    retryable = True


class BusyError(RetuneError):
    """Another run holds the lock of this RETUNE_HOME."""


class ServerStartError(RetuneError):
    """The model server did not start; a retry with the same settings would fail again."""


class RegistryError(RetuneError, LookupError):
    """The model registry lacks the requested entry."""
