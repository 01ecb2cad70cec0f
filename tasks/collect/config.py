"""The ``collect`` section of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from tasks.core import tables
from tasks.core.config import Name, Section

Role = Literal["system", "user", "assistant", "tool"]
Form = Literal["alpaca", "sharegpt", "openai", "prompt_completion", "text", "columns"]
FileFormat = Literal["csv", "tsv", "json", "jsonl", "parquet", "text", "markdown"]
VERDICTS = ("label", "kto_tag", "desirable")
"""Columns of preference data that say whether an answer is wanted; they are read even if the recipe names none."""


class Layout(Section):
    """A source's own names for the parts of a form.

    None means the form's own name; an empty name means that the source has no such column.
    """

    instruction: str | None = Field(None, description="column of alpaca")
    input: str | None = Field(None, description="column of alpaca")
    output: str | None = Field(None, description="column of alpaca")
    history: str | None = Field(None, description="column of alpaca: pairs of earlier questions and answers")
    prompt: str | None = Field(None, description="column of prompt_completion")
    completion: str | None = Field(None, description="column of prompt_completion")
    text: str | None = Field(None, description="column of text")
    messages: str | None = Field(None, description="column of sharegpt and openai that holds the turns")
    system: str | None = Field(None, description="column of the system prompt, of every form but text")
    tools: str | None = Field(None, description="column of the tools that a conversation may call")
    role_key: str | None = Field(None, description="key of a turn: the role")
    content_key: str | None = Field(None, description="key of a turn: the text")
    roles: dict[str, Role | Literal["function_call"]] = Field(
        default_factory=dict, description="the source's word for a role: the role; in addition to the well-known words"
    )

    def columns(self) -> list[str]:
        """The columns that it names."""
        parts = (self.instruction, self.input, self.output, self.history, self.prompt, self.completion, self.text)
        return [name for name in (*parts, self.messages, self.system, self.tools) if name]


class SourceSection(Section):
    """How the rows of any source become documents."""

    name: Name | None = Field(None, description="the source's name in documents; None: the file's, table's or host's")
    licence: str | None = Field(None, description="SPDX id or name of the licence of its documents")
    licence_column: str | None = Field(None, description="a column that holds each row's licence")
    form: Form | None = Field(None, description="the shape of its rows; None: detected")
    layout: Layout = Field(Layout(), description="its own words for the columns and roles of its form")
    columns: dict[Name, str] | None = Field(
        None, description="field of a document: column, with dots into nested values; None: collect.columns"
    )
    id_column: str | None = Field(None, description="a column with a document's permanent id; None: collect.id_column")
    where: dict[str, tuple[str, ...]] | None = Field(
        None, description="keep only rows whose column has one of these values; None: collect.where"
    )


class FileSource(SourceSection):
    """One file, a folder (with all below it), or several files by a glob pattern."""

    path: str = Field(description="relative to the recipe's file; packed files are unpacked as they are read")
    format: FileFormat | None = Field(None, description="None: by each file's ending")


class HubSource(SourceSection):
    """A data set of the Hugging Face Hub, or a local folder in its layout."""

    hub: str = Field(description="id such as mlabonne/FineTome-100k, or a folder relative to the recipe's file")
    subset: str | None = Field(None, description="the configuration of a data set that has several")
    split: str = "train"
    revision: str | None = Field(None, description="commit; without one the data set is not pinned")

    @property
    def is_local(self) -> bool:
        """Whether it is a folder; reading a recipe makes its path absolute."""
        return Path(self.hub).is_absolute()


class DatasetInfoSource(SourceSection):
    """A data set that LLaMA-Factory's ``dataset_info.json`` describes, with its form and columns."""

    dataset_info: str = Field(description="path of a dataset_info.json, relative to the recipe's file")
    dataset: str = Field(description="name in it")


class SqlSource(SourceSection):
    """The rows of a query, through SQLAlchemy: SQLite, PostgreSQL, and any database with an installed driver."""

    sql: str = Field(
        description="SQLAlchemy URL; ${NAME} is taken from the environment, so that the recipe holds no password"
    )
    query: str = Field(description="a SELECT; its columns are the row's")
    watermark: str | None = Field(
        None, description="a column that only grows, such as updated_at: each night reads only rows at or above it"
    )


class HttpSource(SourceSection):
    """JSON or JSONL over HTTP(S), page by page."""

    url: str = Field(description="${NAME} is taken from the environment")
    headers: dict[str, str] = Field(default_factory=dict, description="${NAME} is taken from the environment")
    format: Literal["json", "jsonl"] | None = Field(None, description="None: by the answer's content type")
    rows_at: str | None = Field(None, description="path of the rows in a JSON answer, with dots; None: found")
    next_at: str | None = Field(None, description="path of the next page's URL or cursor in a JSON answer, with dots")
    cursor_parameter: str | None = Field(None, description="query parameter that takes the cursor at next_at")
    page_parameter: str | None = Field(None, description="query parameter that counts pages until one is empty")
    first_page: int = 1
    allow_hosts: tuple[str, ...] = Field((), description="hosts that may have a private or link-local address")
    timeout_seconds: float = Field(60, gt=0, description="limit of one request, to its last byte")
    max_pages: int = Field(10_000, ge=1)
    max_bytes: int = Field(2**30, ge=1, description="of all pages")


class ObjectSource(SourceSection):
    """Files of an object store, by fsspec URL: s3://, and others such as gs:// where their package is installed."""

    object: str = Field(description="URL of an object, a prefix that ends with /, or a glob")
    format: FileFormat | None = Field(None, description="None: by each object's ending")
    options: dict[str, str | bool | int] = Field(
        default_factory=dict,
        description="options of the file system, such as endpoint_url; ${NAME} from the environment",
    )


SOURCE_KINDS: dict[str, type[SourceSection]] = {
    "path": FileSource,
    "hub": HubSource,
    "dataset_info": DatasetInfoSource,
    "sql": SqlSource,
    "url": HttpSource,
    "object": ObjectSource,
}
"""The key that identifies the kind of a source."""


def _kind(source: Any) -> str | None:
    keys = source if isinstance(source, Mapping) else type(source).model_fields
    return next((key for key in SOURCE_KINDS if key in keys), None)


def place_of(source: SourceSection) -> str:
    """A source's path, URL or id, as the recipe writes it."""
    return str(getattr(source, str(_kind(source))))


Source = Annotated[
    Annotated[FileSource, Tag("path")]
    | Annotated[HubSource, Tag("hub")]
    | Annotated[DatasetInfoSource, Tag("dataset_info")]
    | Annotated[SqlSource, Tag("sql")]
    | Annotated[HttpSource, Tag("url")]
    | Annotated[ObjectSource, Tag("object")],
    Discriminator(
        _kind,
        custom_error_type="source_kind",
        custom_error_message=f"a source needs one of the keys: {', '.join(SOURCE_KINDS)}",
    ),
]


class Hygiene(Section):
    """How text that must not reach a model is handled."""

    personal_data: Literal["allow", "redact", "quarantine"] = "redact"
    secrets: Literal["allow", "redact", "quarantine"] = "quarantine"
    control_tokens: Literal["escape", "quarantine"] = Field(
        "escape", description="control tokens of the model's chat template in the data; they never reach a template"
    )
    licences: tuple[str, ...] | None = Field(
        None, description="allowed licences, case ignored; a document without one is refused; None: all"
    )


class CollectConfig(Section):
    """Sources of documents, their hygiene, and the share held out for evaluation."""

    sources: tuple[Source, ...] = Field(min_length=1)
    columns: dict[Name, str] = Field(
        default_factory=dict, description="field of a document: column, for sources without their own mapping"
    )
    id_column: str | None = Field(None, description="a column with a document's permanent id; None: a hash of the row")
    where: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="keep only rows whose column has one of these values"
    )
    max_field_bytes: int = Field(10 * 2**20, ge=1, description="a row with a larger field is quarantined")
    hygiene: Hygiene = Hygiene()
    holdout_fraction: float = Field(
        0.2, gt=0, lt=1, description="share of documents permanently excluded from training"
    )
    holdout_salt: str = Field("retune", description="changing it draws another holdout: never in production")
    timeout_minutes: float = Field(120, gt=0)

    @model_validator(mode="after")
    def _free_names(self) -> CollectConfig:
        mapped = {name for source in self.sources for name in (source.columns or {})}
        if taken := tables.RESERVED & {*self.columns, *mapped}:
            raise ValueError(f"these field names are reserved: {', '.join(sorted(taken))}")
        return self

    def columns_of(self, source: SourceSection) -> dict[str, str]:
        """The column mapping of a source; empty if its form is stated or detected."""
        if source.columns is not None:
            return dict(source.columns)
        return {} if source.form not in (None, "columns") else dict(self.columns)

    def named_columns(self, source: SourceSection) -> list[str]:
        """The columns that the recipe names for a source: mapped ones, id, licence, filters."""
        single = [self.id_column_of(source), source.licence_column]
        named = [*self.columns_of(source).values(), *filter(None, single), *self.where_of(source)]
        return list(dict.fromkeys(named))

    def id_column_of(self, source: SourceSection) -> str | None:
        """A source's id column; a source of form text has one only if it names it itself."""
        return source.id_column or (None if source.form == "text" else self.id_column)

    def where_of(self, source: SourceSection) -> dict[str, tuple[str, ...]]:
        if source.where is not None:
            return dict(source.where)
        return {} if source.form == "text" else dict(self.where)
