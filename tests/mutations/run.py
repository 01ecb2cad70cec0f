"""Show how strong the tests are: make small mutations of the code one at a time, and see whether a test fails.

``python -m tests.mutations.run --out RESULTS.json`` (``make mutations``) works in a copy of the tree that has all
mutations of ``mutations.json`` built in, each behind a switch:

1. All quick tests run once with every switch off; this records which tests reach which mutation, in processes that
   tests start too, and which tests fail by themselves (those do not count).
2. For each mutation, its switch is on and the tests that reach it run, the fastest first, until one fails.

Results: ``caught``, ``survived``, ``unreached`` (no quick test gets there), ``timeout`` (not all tests that reach it
ran in ``--seconds``) or ``lost`` (no place in this tree). They are written after every mutation, and a second call with
the same ``--out`` goes on. ``--before OLD.json`` compares with the results of an older tree. ``--locate`` only finds
places, and shows what is most like a lost one.

The same data file serves before and after a refactoring (see ``places``). If a place is lost, append where it is today
to the mutation's ``places``; the first place that the tree has counts. mutmut and cosmic-ray do not fit: they name a
mutation by its module and number, and mutmut's do not reach worker processes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.mutations.choose import DATA
from tests.mutations.close_tests import close_tests
from tests.mutations.places import Change, Place, changed, find_place, similar_places

SWITCH = "tasks/_mutation.py"
SWITCH_SOURCE = """
import os
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "mutation"
CHOSEN = (FOLDER / "chosen").read_text() if (FOLDER / "chosen").exists() else ""
SEEN = set()


def is_on(name):
    if CHOSEN:
        return name == CHOSEN
    reached = f"{name} {os.environ.get('PYTEST_CURRENT_TEST', '').rpartition(' ')[0]}\\n"
    if reached not in SEEN:
        SEEN.add(reached)
        with (FOLDER / "reached").open("a") as file:
            file.write(reached)
    return False
"""
CALL = f'__import__("{SWITCH.removesuffix(".py").replace("/", ".")}", fromlist=["is_on"]).is_on'
QUICK = "not slow and not e2e and not gpu"
PYTEST = ["-m", "pytest", "-m", QUICK, "-p", "no:cacheprovider", "--hypothesis-seed=0", "--timeout=600", "--tb=no"]
MOST_TESTS = 200
"""Tests that run for one mutation."""


@dataclass
class Mutation:
    """A row of the data file, and its place in the tree."""

    id: str
    area: str
    kind: str
    change: Change
    place: Place | None

    def result(self, **outcome: Any) -> dict[str, Any]:
        module = str(self.place.file.name if self.place else self.change.module)
        about = {"function": self.change.function, "before": self.change.before, "after": self.change.after}
        return {"id": self.id, "area": self.area, "kind": self.kind, "module": module, **about, **outcome}


@dataclass
class Reach:
    """What the run without a mutation found."""

    by_mutation: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    failing: set[str] = field(default_factory=set)

    def tests(self, mutation: Mutation, copy: Path) -> list[str]:
        """The tests to run for a mutation, the fastest first; test files where it was reached by an import alone."""
        found = self.by_mutation.get(mutation.id, set()) - self.failing
        named = [test for test in found if test in self.seconds]
        if found and not named and mutation.place:
            return close_tests(copy, mutation.place.file)
        return sorted(named, key=lambda test: (self.seconds[test], test))[:MOST_TESTS]


def read_mutations(data: Path, root: Path) -> list[Mutation]:
    """The mutations of the data file, with their places in a tree."""
    mutations = []
    for row in json.loads(data.read_text(encoding="utf-8")):
        changes = [Change(**place) for place in row["places"]]
        found = next(((change, place) for change in changes if (place := find_place(root, change))), None)
        change, place = found or (changes[-1], None)
        mutations.append(Mutation(row["id"], row["area"], row["kind"], change, place))
    return mutations


def copy_of(root: Path, folder: Path) -> Path:
    """A copy of the files that git tracks or would track, with the environments of the original."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name)
    for environment in (".venv", ".venv-vllm"):
        if (root / environment).exists():
            (folder / environment).symlink_to((root / environment).resolve())
    return folder


def build_in(copy: Path, mutations: list[Mutation]) -> None:
    """Write every mutation into the copy, behind its switch."""
    (copy / SWITCH).write_text(SWITCH_SOURCE, encoding="utf-8")
    (copy / "mutation").mkdir()
    by_file: dict[Path, list[Mutation]] = defaultdict(list)
    for mutation in mutations:
        if mutation.place:
            by_file[mutation.place.file].append(mutation)
    for file, group in by_file.items():
        edits = [(one.place, f'{CALL}("{one.id}")', one.change.after) for one in group if one.place]
        file.write_text(changed(file, edits), encoding="utf-8")


def run_pytest(copy: Path, arguments: list[str], prefix: list[str]) -> str:
    """Pytest's output, in a copy with a RETUNE_HOME of its own."""
    command = [*prefix, str(copy / ".venv" / "bin" / "python"), *PYTEST, *arguments]
    environment = {**os.environ, "RETUNE_HOME": str(copy / "home")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    shutil.rmtree(copy / "home", ignore_errors=True)
    return done.stdout + done.stderr


def reach_of(copy: Path, tests: list[str], prefix: list[str]) -> Reach:
    """Run the tests with every switch off."""
    output = run_pytest(copy, ["-vv", "--durations=0", "--durations-min=0", *tests], prefix)
    reach = Reach(failing=set(_failed(output)))
    for seconds, test in re.findall(r"^([\d.]+)s (?:call|setup) +(.+)$", output, re.MULTILINE):
        reach.seconds[test] += float(seconds)
    if not reach.seconds:
        raise SystemExit(f"no test ran without a mutation:\n{output[-3000:]}")
    for line in (copy / "mutation" / "reached").read_text(encoding="utf-8").splitlines():
        mutation, _, test = line.partition(" ")
        reach.by_mutation[mutation].add(test)
    return reach


def try_mutation(copy: Path, mutation: Mutation, reach: Reach, prefix: list[str], seconds: int) -> dict[str, Any]:
    """Run the tests that reach a mutation with its switch on."""
    if mutation.place is None:
        return mutation.result(outcome="lost")
    tests = reach.tests(mutation, copy)
    if not tests:
        return mutation.result(outcome="unreached")
    (copy / "mutation" / "chosen").write_text(mutation.id, encoding="utf-8")
    started = time.monotonic()
    output = run_pytest(copy, ["-x", "-q", "-rfE", f"--session-timeout={seconds}", *tests], prefix)
    failed = [test for test in _failed(output) if test not in reach.failing]
    passed = re.search(r"(\d+) passed", output)
    if failed:
        outcome = "caught"
    elif "session-timeout" in output:
        outcome = "timeout"
    else:  # without one test that passed, the code could not even be imported
        outcome = "survived" if passed else "caught"
    known = {
        "tests": len(tests),
        "seconds": round(time.monotonic() - started, 1),
        "caught_by": failed[0] if failed else "",
    }
    return mutation.result(outcome=outcome, **known)


def _failed(output: str) -> list[str]:
    return re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", output, re.MULTILINE)


def escaped(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[str]:
    """The mutations that were caught before and are not now."""
    was_caught = {one["id"] for one in before if one["outcome"] == "caught"}
    return [one["id"] for one in after if one["id"] in was_caught and one["outcome"] != "caught"]


def print_figures(results: list[dict[str, Any]]) -> None:
    """Outcomes by area."""
    outcomes = ("caught", "survived", "unreached", "timeout", "lost")
    print(f"{'area':<16}" + "".join(f"{outcome:>10}" for outcome in outcomes))
    for area in [*dict.fromkeys(one["area"] for one in results), "all"]:
        counts = Counter(one["outcome"] for one in results if area in (one["area"], "all"))
        print(f"{area:<16}" + "".join(f"{counts[outcome]:>10}" for outcome in outcomes))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the tree to mutate (in a copy)")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=Path("mutations-results.json"))
    parser.add_argument("--before", type=Path, help="results of an older tree to compare with")
    parser.add_argument("--only", nargs="*", default=[], help="ids of mutations to try again")
    parser.add_argument("--close", action="store_true", help="only the tests that mirror or import a mutated module")
    parser.add_argument("--seconds", type=int, default=90, help="of tests for each mutation")
    parser.add_argument("--prefix", default="nice", help="a command that runs each pytest")
    parser.add_argument("--locate", action="store_true", help="only find the places")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        copy = copy_of(options.root.resolve(), Path(folder).resolve())
        mutations = read_mutations(options.data, copy)
        if options.locate:
            return _print_lost(copy, mutations)
        results = json.loads(options.out.read_text("utf-8")) if options.out.exists() else []
        results = [one for one in results if one["id"] not in options.only]
        known = {one["id"] for one in results}
        left = [one for one in mutations if one.id in (options.only or {one.id}) and one.id not in known]
        build_in(copy, mutations)
        files = {test for one in left if one.place for test in close_tests(copy, one.place.file)}
        prefix = shlex.split(options.prefix)
        reach = reach_of(copy, sorted(files) if options.close else [], prefix) if left else Reach()
        print(f"without a mutation: {len(reach.seconds)} tests ran in {sum(reach.seconds.values()):.0f} s,",
              f"{len(reach.failing)} failed", *sorted(reach.failing), flush=True)  # fmt: skip
        for mutation in left:
            results.append(try_mutation(copy, mutation, reach, prefix, options.seconds))
            options.out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            print(
                *(results[-1].get(name, "") for name in ("id", "outcome", "seconds", "module", "caught_by")), flush=True
            )
    print_figures(results)
    gone = escaped(json.loads(options.before.read_text(encoding="utf-8")), results) if options.before else []
    if options.before:
        print("escaped:", *(gone or ["none"]))
    return int(bool(gone))


def _print_lost(root: Path, mutations: list[Mutation]) -> int:
    lost = [one for one in mutations if one.place is None]
    for one in lost:
        print(f"lost: {one.id} {one.change.module} {one.change.function}: {one.change.before}")
        for place in similar_places(root, one.change):
            print(f"    {place.file.relative_to(root)} {place.function}: {place.source}")
    print(f"{len(mutations) - len(lost)} of {len(mutations)} mutations have a place")
    return int(bool(lost))


if __name__ == "__main__":
    sys.exit(main())
