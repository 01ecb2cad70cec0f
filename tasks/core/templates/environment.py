"""The Jinja2 of prompts: sandboxed, strict and deterministic.

The child process that renders imports this module and little else, so it must import quickly.
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
    """Compiles a template without constant folding, by which Jinja2 would compute ``{{ "a" * 10 ** 10 }}``: 10 GB."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.optimizer = None

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:
        if not isinstance(node, nodes.TemplateData):
            raise nodes.Impossible
        return super()._output_child_to_const(node, frame, finalize)


class FreshTemplate(Template):
    """A template whose module is made again at each import.

    Jinja2 would keep an import's module, and the values that earlier rows put in a ``namespace`` there: one row's
    values would reach the next row's prompt.
    """

    def _get_default_module(self, ctx: Context | None = None) -> TemplateModule:
        return self.make_module()


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox without random numbers, so that a plan is reproducible, and without escaping for HTML.

    ``topic.items`` of a mapping is its item, or Python's attribute if there is no such item. Only data becomes text.
    """

    code_generator_class = UnfoldedCode
    template_class = FreshTemplate

    def __init__(self, **options: Any) -> None:
        super().__init__(undefined=StrictUndefined, optimized=False, finalize=_data, **options)
        self.globals.pop("lipsum", None)
        self.filters.pop("random", None)
        self.filters["tojson"] = _as_json

    def getattr(self, obj: Any, attribute: str) -> Any:
        """The item of a mapping, or else the attribute as the sandbox gives it."""
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)


def _as_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _data(value: Any) -> Any:
    """The value that an expression writes.

    Raises TypeError: it is or holds something else than data, whose text would be a memory address or a Python name;
    UndefinedError: there is no value.
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
        kind = "a function that is not called" if callable(value) else f"a {type(value).__name__!r}, which is not data"
        raise TypeError(f"an expression writes {kind}")
    return value
