"""Turn rows of known forms into conversations; no other package knows these forms."""

from tasks.collect.forms.convert import FIELDS, Conversation, convert, fields_of
from tasks.collect.forms.detect import form_of

__all__ = ["FIELDS", "Conversation", "convert", "fields_of", "form_of"]
