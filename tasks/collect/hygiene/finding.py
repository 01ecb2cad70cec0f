"""A place of a text that must not stay as it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Finding(NamedTuple):
    """One place.

    Attributes:
        start, end: in characters, end excluded.
        kind: such as ``email`` or ``secret:aws``.
        mark: what is written there instead.
    """

    start: int
    end: int
    kind: str
    mark: str


def without_overlaps(findings: Iterable[Finding]) -> list[Finding]:
    """By place; of findings that overlap the first given stays: give the more certain ones first."""
    findings = list(findings)
    taken = bytearray(max((finding.end for finding in findings), default=0))
    kept = []
    for finding in findings:
        if not any(taken[finding.start : finding.end]):
            taken[finding.start : finding.end] = b"\1" * (finding.end - finding.start)
            kept.append(finding)
    return sorted(kept)


def redacted(text: str, findings: Iterable[Finding]) -> str:
    """The text with the mark of each finding in its place."""
    parts, done = [], 0
    for finding in sorted(findings):
        parts += [text[done : finding.start], finding.mark]
        done = finding.end
    return "".join([*parts, text[done:]])
