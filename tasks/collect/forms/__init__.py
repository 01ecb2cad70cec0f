"""Rows of any known form as conversations: the only place where forms other than the canonical one are known."""

from tasks.collect.forms.convert import FIELDS, Conversation, convert, fields_of
from tasks.collect.forms.detect import form_of

__all__ = ["FIELDS", "Conversation", "convert", "fields_of", "form_of"]
