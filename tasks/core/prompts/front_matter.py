"""The head of a prompt file: its purpose, its variables, and how answers become rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from tasks.core.config import Name, Section

JINJA_NAMES = frozenset(
    {"and", "caller", "cycler", "dict", "elif", "else", "false", "False", "for", "if", "import", "in", "is",
     "joiner", "kwargs", "loop", "namespace", "none", "None", "not", "or", "range", "self", "super", "true",
     "True", "varargs"}
)  # fmt: skip
"""Names with a meaning in Jinja2."""
JUDGING = ("criteria", "scale")
"""What a judge's template gets in addition to its variables."""


def _free(name: str) -> str:
    if name in JINJA_NAMES:
        raise ValueError(f"{name!r} has a meaning in Jinja2: rename the variable")
    return name


VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"), AfterValidator(_free)]


class Sampling(Section):
    """Sampling parameters, all sent with every request: the server's defaults do not matter."""

    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, description="0: all tokens")
    min_p: float = Field(0.0, ge=0, le=1)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    stop: tuple[str, ...] = ()
    max_tokens: int = Field(256, ge=1)


class DocumentField(Section):
    """A variable filled from a field of the document, or of the row in a judge."""

    source: Literal["document"] = Field("document", alias="from")
    field: Name | None = Field(None, description="None: the field of the variable's own name")
    type: Literal["text", "number", "boolean", "list", "object"] = Field(
        "text", description="type of the value; all types but text are read from the field as JSON"
    )


class Sampler(Section):
    """A variable drawn for each row from a weighted set, such as categories, personas or lengths."""

    source: Literal["sampler"] = Field("sampler", alias="from")
    values: dict[str, float] = Field(min_length=1, description="value: weight; a plain list gives each the weight 1")

    @field_validator("values", mode="before")
    @classmethod
    def _weighted(cls, given: Any) -> Any:
        return dict.fromkeys(_unique(given), 1.0) if isinstance(given, list | tuple) else given

    @field_validator("values")
    @classmethod
    def _positive(cls, values: dict[str, float]) -> dict[str, float]:
        if any(not 0 <= weight < float("inf") for weight in values.values()) or not sum(values.values()):
            raise ValueError("weights must be numbers of at least 0, and one must be above 0")
        return values


class FewShot(Section):
    """A variable with other training documents, drawn for each row: a list of mappings of their fields."""

    source: Literal["few_shot"] = Field("few_shot", alias="from")
    count: int = Field(3, ge=1, le=100)
    fields: tuple[Name, ...] = Field(min_length=1, description="of the documents, as the template may name them")
    same: Name | None = Field(None, description="draw only documents whose field equals this row's, such as a label")


Variable = Annotated[DocumentField | Sampler | FewShot, Field(discriminator="source")]


class Output(Section):
    """How an answer becomes rows."""

    format: Literal["text", "lines", "json"] = Field(
        "text", description="text: one row; lines: a row for each line; json: an object is a row, an array several"
    )
    field: Name = Field("text", description="the column that text or a line fills")
    reasoning: Literal["cut", "reject"] = Field(
        "cut", description="what happens to the teacher's reasoning, such as <think>...</think>, in an answer"
    )
    json_schema: dict[str, Any] | None = Field(
        None, description="JSON Schema of an object, or of an array of objects; the properties are columns"
    )

    @property
    def row_schema(self) -> dict[str, Any]:
        """The schema of one row: the JSON schema, or the schema of its items if it describes an array."""
        schema = self.json_schema or {}
        row = schema.get("items") if schema.get("type") == "array" else schema
        return row if isinstance(row, dict) else {}

    @property
    def fields(self) -> tuple[str, ...]:
        if self.format != "json":
            return (self.field,)
        properties = self.row_schema.get("properties")
        return tuple(str(name) for name in properties) if isinstance(properties, dict) else ()


class Judge(Section):
    """Makes a template a judge, by a pattern of its answer or by a score on a scale; ``temperature`` must be 0."""

    accept: str | None = Field(None, description="a row passes if the answer matches this regular expression, any case")
    criteria: tuple[str, ...] = Field((), description="what is judged; the template gets them as `criteria`")
    scale: tuple[int, int] | None = Field(None, description="lowest and highest score; the template gets it as `scale`")
    threshold: float | None = Field(None, description="the lowest score that passes")
    score: Name = Field("score", description="property of the JSON answer that holds the score")
    reasons: Name = Field("reasons", description="property of the JSON answer that holds the reasons")

    @model_validator(mode="after")
    def _one_way(self) -> Judge:
        if (self.accept is None) == (self.scale is None):
            raise ValueError("a judge has either accept, or scale and threshold")
        if self.scale is not None:
            low, high = self.scale
            if self.threshold is None or not low < high or not low < self.threshold <= high:
                raise ValueError("scale is [lowest, highest], and threshold is above lowest and at most highest")
        elif self.threshold is not None:
            raise ValueError("threshold belongs to a scale")
        return self


class FrontMatter(Section):
    """The head of a prompt file."""

    name: Name
    version: int = Field(ge=1)
    purpose: str = Field(min_length=1)
    variables: dict[VariableName, Variable] = Field(
        default_factory=dict, description="name: where it comes from; a plain list names fields of the document"
    )
    output: Output = Output()
    judge: Judge | None = None
    sampling: Sampling = Sampling()
    rows_per_document: int = Field(1, ge=1, le=1000, description="requests for each document")
    contract: Name | None = Field(None, description="the contract in data_contracts/ that its rows feed")

    @field_validator("variables", mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        if isinstance(given, list | tuple):
            return {name: {"from": "document"} for name in _unique(given)}
        if isinstance(given, dict):
            return {name: _from_document(variable) for name, variable in given.items()}
        return given

    @property
    def document_fields(self) -> tuple[str, ...]:
        named: list[str] = []
        for name, variable in self.variables.items():
            if isinstance(variable, DocumentField):
                named.append(variable.field or name)
            elif isinstance(variable, FewShot):
                named += [*variable.fields, *([variable.same] if variable.same else [])]
        return tuple(dict.fromkeys(named))

    @property
    def judging(self) -> dict[str, Any]:
        """What a judge's template gets in addition to its variables, by name."""
        if self.judge is None:
            return {}
        given = {"criteria": list(self.judge.criteria), "scale": list(self.judge.scale or ())}
        return {name: value for name, value in given.items() if value}


def _from_document(variable: Any) -> Any:
    return {"from": "document", **(variable or {})} if variable is None or isinstance(variable, dict) else variable


def _unique(values: Sequence[Any]) -> Sequence[Any]:
    if odd := next((value for value in values if isinstance(value, list | dict)), None):
        raise ValueError(f"{odd!r} is not text")
    if twin := next((value for value in values if isinstance(value, str) and values.count(value) > 1), None):
        raise ValueError(f"{twin!r} is listed twice")
    return values
