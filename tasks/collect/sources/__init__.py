"""Sources of documents: one module per kind, read through the ``Reader`` interface of ``records``."""

from tasks.collect.sources.formats import format_of, read_file
from tasks.collect.sources.readers import check_columns, reader_of, readers_of, resolved

__all__ = ["check_columns", "format_of", "read_file", "reader_of", "readers_of", "resolved"]
