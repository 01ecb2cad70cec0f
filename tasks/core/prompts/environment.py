"""The Jinja2 that templates are written in: sandboxed, strict, and the same every time.

The child that renders imports this module and little else, so it must stay quick to import.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined, Template, Undefined, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.environment import TemplateModule
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment


class UnfoldedCode(CodeGenerator):
    """Compiles a template without computing any part of it.

    Jinja2 computes constant expressions while it compiles: reading ``{{ "a" * 10 ** 10 }}`` would take 10 GB.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.optimizer = None

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:
        if not isinstance(node, nodes.TemplateData):
            raise nodes.Impossible
        return super()._output_child_to_const(node, frame, finalize)


class FreshTemplate(Template):
    """A template that is made anew wherever it is imported.

    Jinja2 keeps the module of an import for as long as the environment lives, and a ``namespace`` in it with what the
    rows before have put there: one row's values would reach the next row's prompt.
    """

    def _get_default_module(self, ctx: Context | None = None) -> TemplateModule:
        return self.make_module()


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox without what draws random numbers (a plan must come out the same) or escapes for HTML.

    Of a mapping, ``topic.items`` is the item; what Python has under that name is taken where there is no such item.
    Only data becomes text.
    """

    code_generator_class = UnfoldedCode
    template_class = FreshTemplate

    def __init__(self, **options: Any) -> None:
        super().__init__(undefined=StrictUndefined, optimized=False, finalize=_data, **options)
        self.globals.pop("lipsum", None)
        self.filters.pop("random", None)
        self.filters["tojson"] = _as_json

    def getattr(self, obj: Any, attribute: str) -> Any:
        """An attribute as the sandbox gives it, but first the item of a mapping."""
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)


def _as_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _data(value: Any) -> Any:
    """The value that an expression is to write.

    Raises:
        TypeError: it is, or holds, something else than data, whose text would be an address in memory or a name of
            Python's. ``UndefinedError`` where there is no value.
    """
    if isinstance(value, Undefined):
        return str(value)
    if isinstance(value, list | tuple):
        for item in value:
            _data(item)
    elif isinstance(value, dict):
        for item in (*value, *value.values()):
            _data(item)
    elif not isinstance(value, str | int | float | None):
        kind = "a function that is not called" if callable(value) else f"a {type(value).__name__!r}, which is no data"
        raise TypeError(f"an expression writes {kind}")
    return value
