"""Whether what a template writes becomes the conversations that a recipe's task describes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from tasks.core.config import ChatTask
from tasks.core.findings import Finding, Severity
from tasks.core.prompts.front_matter import DocumentField, FewShot, FrontMatter, Sampler
from tasks.core.prompts.head import HeadPlaces
from tasks.core.suggestions import did_you_mean
from tasks.core.tables import GENERATED
from tasks.core.yaml_tree import Place

CODE, LABEL = "task-field", "task-label"


def answers_of(task: ChatTask) -> tuple[str, ...]:
    """The columns that hold a row's answer, which is a label where the task has labels."""
    return (task.output, "assistant_text")


class TaskFit:
    """A template that writes rows, against a task.

    A row's field comes from the answer, else from a sampler, else from its document: a field that the template forgets
    to write is filled with a collected value. ``used``: fields that contracts and judges of the recipe read.
    """

    def __init__(
        self, path: Path, head: FrontMatter, places: HeadPlaces, task: ChatTask, used: Collection[str]
    ) -> None:
        self.path, self.head, self.places, self.task, self.used = path, head, places, task, used
        self.fields = [name for name in (task.input, task.output, task.context) if name]
        self.written = head.output.fields
        drawn = [name for name, variable in head.variables.items() if isinstance(variable, Sampler)]
        self.inherited = [name for name in self.fields if name not in (*self.written, *drawn)]

    def findings(self) -> Iterator[Finding]:
        """Fields of the task that it does not write, outputs that nothing reads, and labels that the task lacks."""
        roles = ", ".join(f"{role} {name!r}" for role, name in self._roles())
        if not self.written:
            return  # its output has a fault of its own
        if not set(self.written) & set(self.fields):
            shown = ", ".join(map(repr, self.written))
            what = f"It writes {shown}, and the task reads {roles}: rows would be copies of their documents"
            yield self._finding(CODE, what, self._place(self.written[:1]), self._remedy(self.written))
        elif self.inherited and not self._sees_its_document:
            names = ", ".join(map(repr, self.inherited))
            what = f"Rows take {names} from a document, of which the template shows nothing to the teacher"
            remedy = "write or draw it, or make a field of the document a variable"
            yield self._finding(CODE, what, self.places.find("variables"), remedy)
        else:
            yield from self._unread(roles)
        yield from self._labels()

    def _roles(self) -> list[tuple[str, str]]:
        named = {"input": self.task.input, "output": self.task.output, "context": self.task.context}
        return [(role, name) for role, name in named.items() if name]

    def _unread(self, roles: str) -> Iterator[Finding]:
        others = {*self.fields, *self.used, *GENERATED}  # a column of every row is a fault of its own
        unread = [name for name in self.written if name not in others]
        seen = {*self.head.document_fields, *([self.task.output] if self.task.labels else [])}
        for name in unread if self.inherited else []:
            taken = ", ".join(map(repr, self.inherited))
            what = f"Nothing reads its output {name!r}, while rows take {taken} from their document; the task: {roles}"
            is_slip = bool(did_you_mean(name, self.inherited)) or not seen.issuperset(self.inherited)
            severity: Severity = "error" if is_slip else "warning"
            yield self._finding(CODE, what, self._place([name]), self._remedy([name]), severity)

    @property
    def _sees_its_document(self) -> bool:
        variables = self.head.variables.values()
        return any(isinstance(one, DocumentField) or (isinstance(one, FewShot) and one.same) for one in variables)

    def _labels(self) -> Iterator[Finding]:
        labels, name = self.task.labels, self.task.output
        described = (self.head.output.row_schema.get("properties") or {}).get(name) if name in self.written else None
        variable = self.head.variables.get(name)
        if isinstance(described, dict) and self.head.output.format == "json":
            allowed = described.get("enum") or ([described["const"]] if "const" in described else [])
            place = self._place([name], "enum" if "enum" in described else "const")
        elif isinstance(variable, Sampler) and name not in self.written:
            allowed, place = list(variable.values), self.places.find("variables", name, "values")
        else:
            return
        if not labels or not allowed:
            return
        for value in allowed:
            if value not in labels:
                what = f"{value!r} is not one of the task's labels, and {name!r} is the task's output"
                remedy = f"{did_you_mean(str(value), labels)}labels are: {', '.join(labels)}"
                yield self._finding(LABEL, what, place, remedy)
        missing = [label for label in labels if label not in allowed]
        if missing:
            what = f"It never writes the labels {', '.join(missing)}"
            yield self._finding(LABEL, what, place, "add them, unless another template writes them", "warning")

    def _remedy(self, names: Collection[str]) -> str:
        hint = next(filter(None, (did_you_mean(name, self.inherited or self.fields) for name in names)), "")
        return f"{hint}rename the output, or change task.input, task.output or task.context in the recipe"

    def _place(self, names: Collection[str], *below: str) -> Place:
        output = self.head.output
        if output.format != "json":
            return self.places.find_value("output", "field")
        items = ("items",) if output.row_schema is not output.json_schema else ()
        return self.places.find("output", "json_schema", *items, "properties", *names, *below)

    def _finding(self, code: str, what: str, place: Place, remedy: str, severity: Severity = "error") -> Finding:
        return Finding(code, what, str(self.path), *place, remedy, severity)
