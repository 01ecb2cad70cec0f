"""Find regular expressions with catastrophic backtracking on short texts, such as ``^(\\w+\\s?)+$``.

Python's ``re`` cannot be interrupted, so patterns are tried in a process of their own, on texts that expose them.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterable
from functools import cache

PATIENCE_SECONDS = 2
"""CPU time, which does not depend on how busy the machine is; good patterns together take a hundredth of a second."""
PROBES = tuple(
    (part * 40)[:60] + ending
    for part in ("a", "ab", "A", "0", "a0", " ", "a ", "word ", "word, ", "a-", "a.", "(", '"', "字", "\n", "a\n")
    for ending in ("", "!", "\0")
)
_TRY_ALL = """
import json, re, resource, sys
patterns, probes, seconds = json.load(sys.stdin)
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
for pattern in patterns:
    found = re.compile(pattern)
    for probe in probes:
        found.search(probe)
    print(flush=True)
"""


def endless(patterns: Iterable[str]) -> frozenset[str]:
    return _endless(tuple(dict.fromkeys(patterns)))


@cache
def _endless(patterns: tuple[str, ...]) -> frozenset[str]:
    found, left = set(), list(patterns)
    while left:
        done = _tried(left)
        if done < len(left):
            found.add(left[done])
        left = left[done + 1 :]
    return frozenset(found)


def _tried(patterns: list[str]) -> int:
    """How many of the patterns, in their order, finish before the first that is too slow."""
    command = [sys.executable, "-I", "-S", "-c", _TRY_ALL]
    given = json.dumps([patterns, PROBES, PATIENCE_SECONDS])
    child = subprocess.run(command, input=given, capture_output=True, text=True)
    if child.returncode not in (0, -signal.SIGKILL, -signal.SIGXCPU):
        raise RuntimeError(f"The patterns could not be tried: {child.stderr}")
    return child.stdout.count("\n") if child.returncode else len(patterns)
