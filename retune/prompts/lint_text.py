"""Check a template's text outside Jinja: braces that look like Jinja but are not, and control tokens."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from retune.prompts.lint_template import LintedTemplate
from tasks.core.config import ModelSource
from tasks.core.findings import Finding
from tasks.core.prompts.syntax import Source, Token

SINGLE = re.compile(r"\{\s*([^\W\d]\w*)\s*\}+")
NAMED = re.compile(r"\{\s*([^\W\d]\w*)")
SPACED = re.compile(r"\{\s+[%#]\s[^{}\n]*\}?")
BRACE = re.compile(r"[{}]")
CONTROL_TOKEN = re.compile(r"<\|\w+\|>|<(?:start|end)_of_turn>|\[/?INST\]")
CODE = "stray-braces"
IF_MEANT = "if braces are meant as text, put them between {% raw %} and {% endraw %}"


def stray_braces(source: Source, variables: Collection[str]) -> list[Finding]:
    """Braces in text that were meant as Jinja, but would be sent to the teacher; in order.

    Errors: ``{name}`` of a variable, ``name }}``, ``{ %``, ``{{{``. Warnings: other braces without a partner.
    """
    texts = _texts(source)
    wrong = [*_tripled(source), *_single(source, texts, variables), *_spaced(source, texts)]
    known = {offset for begin, end, _ in wrong for offset in range(begin, end)}
    braces = [token.at + brace.start() for token in texts for brace in BRACE.finditer(token.text)]
    findings = [finding for _, _, finding in wrong]
    findings += _unmatched(source, [offset for offset in braces if offset not in known], variables)
    return sorted(findings, key=lambda finding: (finding.line, finding.column))


def without_consequences(findings: Sequence[Finding], template: LintedTemplate) -> list[Finding]:
    """The findings without unused variables that are in single braces: those have a finding of their own."""
    names = template.head.variables
    single = {
        match[1] for source in template.sources for text in _texts(source) for match in SINGLE.finditer(text.text)
    }
    places = {template.places.find("variables", name) for name in single & set(names)}
    return [finding for finding in findings if finding.code != "unused" or (finding.line, finding.column) not in places]


def control_tokens_of(models: Sequence[ModelSource]) -> set[str]:
    """The control tokens of the models that are on this machine."""
    from tasks.core.control_tokens import control_tokens

    return {token for model in models if model.is_local for token in control_tokens(model)}


def control_tokens(source: Source, tokens: Collection[str]) -> Iterator[Finding]:
    """The model's control tokens in text: the model would take them for the end of a turn.

    Without known ``tokens``, text that looks like a control token is a warning.
    """
    known = re.compile("|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True)))
    for token in source.tokens:
        if token.kind not in ("data", "string"):
            continue
        for match in (known if tokens else CONTROL_TOKEN).finditer(token.text):
            what = (
                f"'{match[0]}' is a control token of the model"
                if tokens
                else f"'{match[0]}' looks like a control token"
            )
            remedy = "remove it: the chat template adds it"
            finding = source.finding("control-token", what, source.place(token.at + match.start()), remedy)
            yield finding if tokens else replace(finding, severity="warning")


def _texts(source: Source) -> list[Token]:
    texts: list[Token] = []
    is_raw = False
    for token in source.tokens:
        is_raw = token.kind == "raw_begin" or (is_raw and token.kind != "raw_end")
        if token.kind == "data" and not is_raw:
            texts.append(token)
    return texts


Wrong = tuple[int, int, Finding]


def _tripled(source: Source) -> Iterator[Wrong]:
    for token, following in zip(source.tokens, source.tokens[1:], strict=False):
        if token.kind == "variable_begin" and following.text == "{":
            what = "'{{{' opens a mapping of Jinja, not a brace and a variable"
            remedy = "write {{ name }}; a brace as text before a value is {{ '{' }}"
            yield token.at, token.at + 3, source.finding(CODE, what, source.place(token.at), remedy)


def _single(source: Source, texts: list[Token], variables: Collection[str]) -> Iterator[Wrong]:
    for token in texts:
        for match in SINGLE.finditer(token.text):
            if match[1] in variables:
                begin = token.at + match.start()
                what = f"The variable {match[1]!r} is in '{match[0]}', which is sent as text"
                finding = source.finding(CODE, what, source.place(begin), f"write {{{{ {match[1]} }}}}; {IF_MEANT}")
                yield begin, token.at + match.end(), finding


def _spaced(source: Source, texts: list[Token]) -> Iterator[Wrong]:
    for token in texts:
        for match in SPACED.finditer(token.text):
            begin = token.at + match.start()
            what = f"'{match[0]}' is not Jinja: there is a space between brace and sign"
            finding = source.finding(CODE, what, source.place(begin), f"write {{% ... %}}; {IF_MEANT}")
            yield begin, token.at + match.end(), finding


def _unmatched(source: Source, braces: list[int], variables: Collection[str]) -> Iterator[Finding]:
    """Braces without a partner; ``}}`` and ``%}`` are one fault each, and so is ``{`` with a variable's name."""
    text = source.text
    known = set(braces)
    opened: list[int] = []
    closed: set[int] = set()
    for offset in braces:
        if text[offset] == "{":
            opened.append(offset)
        elif opened:
            opened.pop()
        elif offset - 1 not in closed:
            closed.add(offset)
            signed = text[offset - 1 : offset] in ("%", "#")
            begin, end = offset - signed, offset + 1 + (not signed and offset + 1 in known)
            what = f"'{text[begin:end]}' closes nothing"
            finding = source.finding(CODE, what, source.place(begin), f"open it with {{{{ or {{%; {IF_MEANT}")
            yield finding if end - begin == 2 else replace(finding, severity="warning")
    for offset in opened:
        named = NAMED.match(text, offset)
        remedy = f"variables are written {{{{ name }}}}; {IF_MEANT}"
        finding = source.finding(CODE, "'{' is never closed", source.place(offset), remedy)
        yield finding if named and named[1] in variables else replace(finding, severity="warning")
