"""The ``collect`` section of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from tasks.core.config import Name, Section

FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".parquet": "parquet"}
Role = Literal["system", "user", "assistant"]
SHAREGPT_ROLES: dict[str, Role] = {"system": "system", "human": "user", "gpt": "assistant"}
RESERVED = {"document_id", "source", "line", "messages"}


class FileSource(Section):
    """One file, or several by a glob pattern."""

    path: str = Field(description="CSV (with a header), JSONL or Parquet; relative to the recipe's file; may be a glob")
    format: Literal["csv", "jsonl", "parquet"] | None = Field(None, description="None: by the file's ending")

    def format_of(self, file: Path) -> str | None:
        """The format to read a file in, or None where its ending tells nothing."""
        return self.format or FORMATS.get(file.suffix.lower())


class HubSource(Section):
    """A data set of the Hugging Face Hub, or a local folder in its layout."""

    hub: str = Field(description="id such as mlabonne/FineTome-100k, or a folder relative to the recipe's file")
    split: str = "train"
    revision: str | None = Field(None, description="commit; without one the data set is not pinned")

    @property
    def is_local(self) -> bool:
        """Whether it is a folder: recipes resolve folders to absolute paths when they are read."""
        return Path(self.hub).is_absolute()

    @property
    def name(self) -> str:
        """What its rows are known by: the id, or the folder's name."""
        return Path(self.hub).name if self.is_local else self.hub


class Conversations(Section):
    """A column that already holds whole conversations, such as ShareGPT's."""

    column: str = "conversations"
    role_key: str = "from"
    content_key: str = "value"
    roles: dict[str, Role] = Field(default_factory=SHAREGPT_ROLES.copy, description="the source's word: the role")


class CollectConfig(Section):
    """Where documents come from, and which of them are set aside for evaluation."""

    sources: tuple[FileSource | HubSource, ...] = Field(min_length=1)
    columns: dict[Name, str] = Field(default_factory=dict, description="field of a document: column of the source")
    conversations: Conversations | None = None
    id_column: str | None = Field(None, description="a column that names a document for good; None: a hash of the row")
    where: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="keep only rows whose column has one of these values"
    )
    holdout_fraction: float = Field(0.2, gt=0, lt=1, description="share of documents kept from training for good")
    holdout_salt: str = Field("retune", description="changing it draws another holdout: never do so in production")

    @model_validator(mode="after")
    def _one_form(self) -> CollectConfig:
        if bool(self.columns) == (self.conversations is not None):
            raise ValueError("name either columns (a mapping of fields) or conversations, and not both")
        if taken := RESERVED & set(self.columns):
            raise ValueError(f"these field names are reserved: {', '.join(sorted(taken))}")
        return self
