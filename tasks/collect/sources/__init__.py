"""Sources of documents: each kind is one module, read through the ``Reader`` interface of ``records``."""

from tasks.collect.sources.columns import check_columns
from tasks.collect.sources.formats import format_of, read_file
from tasks.collect.sources.readers import needed_columns, reader_of, readers_of, resolved

__all__ = ["check_columns", "format_of", "needed_columns", "read_file", "reader_of", "readers_of", "resolved"]
