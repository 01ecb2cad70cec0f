"""A small project whose contracts are good, and faults to plant in it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from flows.recipe.paths import Project
from tasks.core.home import PROJECT_ROOT
from tests.retune.prompts.planted_faults import HERE, write

ROWS, SETS = "data_contracts/rows.odcs.yaml", "data_contracts/sets.odcs.yaml"
DOCUMENTS = "data_contracts/documents.odcs.yaml"
RECIPE, PROMPT = "deployments/recipes/nightly.yaml", "prompts/write.md"
HEAD = """apiVersion: v3.1.0
kind: DataContract
id: NAME
name: NAME
version: 1.0.0
status: active
team:
  name: data engineers
schema:
"""
FILES = {
    ROWS: HEAD.replace("NAME", "rows")
    + """  - name: rows
    properties:
      - name: row_id
        logicalType: string
        required: true
      - name: message
        logicalType: string
        required: true
        logicalTypeOptions:
          minLength: 3
          maxLength: 300
        quality:
          - name: three words
            type: custom
            engine: greatExpectations
            severity: critical
            implementation:
              type: expect_column_values_to_match_regex
              kwargs:
                regex: '^(\\w+ ){2}'
                mostly: 0.9
          - name: fits the model
            type: custom
            engine: greatExpectations
            implementation:
              type: expect_column_token_counts_to_be_between
              kwargs:
                max_value: 90
      - name: tone
        logicalType: string
        enum:
          - value: calm
          - value: angry
      - name: seed
        logicalType: integer
        logicalTypeOptions:
          minimum: 0
    quality:
      - name: some rows
        type: custom
        engine: greatExpectations
        implementation:
          type: expect_table_row_count_to_be_between
          kwargs:
            min_value: 8
      - name: tones are mixed
        type: custom
        engine: greatExpectations
        severity: warning
        implementation:
          type: expect_column_label_shares_to_be_between
          kwargs:
            column: tone
            max_share: 0.9
""",
    DOCUMENTS: HEAD.replace("NAME", "documents")
    + """  - name: documents
    properties:
      - name: document_id
        logicalType: string
        required: true
      - name: topic
        logicalType: string
        required: true
""",
    SETS: HEAD.replace("NAME", "sets")
    + """  - name: sets
    properties:
      - name: user_text
        logicalType: string
        required: true
  - name: drift
    properties:
      - name: label_distance
        logicalType: number
        logicalTypeOptions:
          maximum: 0.2
""",
    PROMPT: """---
name: write
version: 1
purpose: Write a message on a topic.
variables:
  topic: {from: document}
  tone: {from: sampler, values: [calm, angry]}
output: {format: text, field: message}
---
user:
Write a {{ tone }} one about {{ topic }}.
""",
    RECIPE: yaml.safe_dump(
        {
            "name": "nightly",
            "model": {"path": str(PROJECT_ROOT / "seedling" / "model")},
            "collect": {"sources": [{"path": "messages.csv"}], "columns": {"topic": "topic"}},
            "generate": {"prompts": ["write"]},
            "validate": {
                "contracts": {"documents": "documents", "evaluations": "documents", "rows": "rows",
                              "training_set": "sets"}
            },
            "train": {"max_steps": 10},
            "evaluate": {},
            "publish": {"name": "router"},
        },
        sort_keys=False,
    ),
}  # fmt: skip
REGEX = "regex: '^(\\w+ ){2}'"
ENUM = "enum:\n          - value: calm\n          - value: "


@dataclass(frozen=True)
class Fault:
    """One thing wrong in an otherwise good project.

    Attributes:
        code: that lint must give it.
        old, new: the text that is replaced, and by what, with :data:`HERE` where lint must point to.
        file: that it is planted in.
        severity: how bad it is.
        says: what the finding must say, in its sentence or its remedy.
        points_to: the text that lint must point to, where that is not what was planted.
        elsewhere: further replacements that the fault needs.
    """

    code: str
    old: str
    new: str
    file: str = ROWS
    severity: str = "error"
    says: str = ""
    points_to: str = ""
    elsewhere: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.code}: {self.new.strip()[:40]}"


def rule_on_message(code: str, expectation: str, says: str, **kwargs: Any) -> Fault:
    """A further rule on the messages, at fault in its first argument; without any, in all of it."""
    here = "" if kwargs else HERE
    lines = [f"- type: custom\n{'':12}engine: greatExpectations\n{'':12}{here}implementation:"]
    lines += [f"{'':4}type: {expectation}"]
    if kwargs:
        first = next(iter(kwargs))
        given = [f"{HERE if name == first else ''}{name}: {json.dumps(value)}" for name, value in kwargs.items()]
        lines += [f"{'':4}kwargs:", *(f"{'':6}{one}" for one in given)]
    block = "          " + f"\n{'':10}".join(lines).replace(f"\n{'':10}    ", f"\n{'':14}") + "\n"
    tone = "      - name: tone\n"
    return Fault(code, tone, block + tone, says=says)


FAULTS = [
    # the file
    Fault("yaml", "status: active", "status: [active", points_to=":\n  name: data engineers"),
    Fault("duplicate-key", "status: active\n", f"status: active\n{HERE}status: draft\n", says="'status' occurs twice"),
    Fault("unknown-key", "required: true\n        logicalType", f"{HERE}requird: true\n        logicalType",
          says="did you mean 'required'?"),
    Fault("not-odcs", "kind: DataContract", f"{HERE}kind: Contract", says="'DataContract'"),
    Fault("not-odcs", "version: 1.0.0\n", "", says="'version' is a required property", points_to="apiVersion"),
    Fault("version", "version: 1.0.0", f"{HERE}version: first", severity="warning"),
    Fault("no-owner", "team:\n  name: data engineers\n", "", severity="warning", points_to="apiVersion"),
    Fault("unread-table", "  - name: drift", f"  - {HERE}name: drifts", SETS, "warning", says="named drift"),
    # columns
    Fault("unknown-column", "- name: message", f"- {HERE}name: mesage", says="did you mean 'message'?"),
    Fault("unknown-column", "- name: topic", f"- {HERE}name: row_id", DOCUMENTS, says="'nightly', documents"),
    Fault("unknown-column", "column: tone", f"{HERE}column: tonne", says="did you mean 'tone'?"),
    Fault("unknown-column", "- name: label_distance", f"- {HERE}name: label_distanse", SETS,
          says="did you mean"),
    Fault("duplicate-column", "      - name: tone\n        logicalType: string\n",
          "      - name: seed\n      - name: tone\n        logicalType: string\n", points_to="name: seed\n        log"),
    Fault("column-type", "logicalType: string\n        enum", f"{HERE}logicalType: integer\n        enum",
          says="stored as string"),
    Fault("column-type", "logicalType: integer", f"{HERE}logicalType: date", says="stored as integer",
          elsewhere={"        logicalTypeOptions:\n          minimum: 0\n": ""}),
    # rules
    Fault("unknown-expectation", "type: expect_column_values_to_match_regex",
          f"{HERE}type: expect_colum_values_to_match_regx", says="expect_column_values_to_match_regex"),
    Fault("arguments", REGEX, f"{HERE}regx: a", says="unknown argument 'regx'"),
    Fault("arguments", "column: tone\n            max_share: 0.9", "max_share: 0.9", says="'column' is missing",
          points_to="kwargs:\n            max_share"),
    Fault("bad-range", "min_value: 8", f"{HERE}min_value: many", says="neither a number"),
    Fault("regex", REGEX, f"{HERE}regex: '('", says="not a valid regular expression"),
    Fault("bad-range", "mostly: 0.9", f"{HERE}mostly: 90", says="mostly"),
    Fault("bad-range", "minLength: 3", f"{HERE}minLength: 301", says="301 is above max_value 300"),
    Fault("bad-range", "min_value: 8", f"{HERE}min_value: 8\n            max_value: 7"),
    Fault("bad-range", "max_share: 0.9", f"{HERE}max_share: 90", says="max_share"),
    Fault("bad-range", "mostly: 0.9", f"{HERE}mostly: .nan", says="mostly: nan is not a finite number"),
    Fault("bad-range", "min_value: 8", f"{HERE}min_value: -.inf", says="leave it out"),
    rule_on_message("bad-range", "expect_column_quantile_values_to_be_between", says="9 is above 1",
                    quantile_ranges={"quantiles": [0.5], "value_ranges": [[9, 1]]}, column="seed"),
    rule_on_message("bad-range", "expect_column_values_to_be_between", min_value="soon", says="nor a date"),
    rule_on_message("arguments", "expect_column_values_to_match_strftime_format", strftime_format="%Q",
                    says="not a date format"),
    rule_on_message("regex", "expect_column_values_to_match_regex", regex="^(\\w+\\s?)+$", says="takes forever"),
    rule_on_message("column-type", "expect_column_values_to_be_between", max_value=3, says="'message' is text"),
    rule_on_message("column-type", "expect_column_pair_values_a_to_be_greater_than_b", column_A="seed",
                    column_B="message", says="text with a number"),
    rule_on_message("column-type", "expect_column_values_to_be_increasing", says="needs numbers"),
    rule_on_message("not-text", "expect_column_values_to_be_in_set", value_set=["a", 2], says="only in quotes"),
    rule_on_message("not-text", "expect_column_values_to_be_in_language", languages=["en", False], says="in quotes"),
    rule_on_message("not-text", "expect_column_label_shares_to_be_between", value_set=[1.5], min_share=0.1,
                    column="tone", says="in quotes"),
    Fault("not-text", f"{ENUM}angry", f"{HERE}{ENUM}yes", says="yes (read as True)"),
    rule_on_message("never-fails", "expect_column_values_to_not_be_in_set", value_set=["a"], column="seed",
                    says="without quotes"),
    Fault("bad-range", "max_value: 90", f"{HERE}min_value: 91\n                max_value: 90", says="more than"),
    Fault("never-fails", "minLength: 3\n          maxLength: 300", f"{HERE}minLength: 0", says="excludes nothing"),
    Fault("never-fails", REGEX, f"{HERE}regex: '.*'", says="found in every text"),
    Fault("never-fails", "mostly: 0.9", f"{HERE}mostly: 0", says="every row"),
    Fault("never-fails", "min_value: 8", f"{HERE}min_value: 0"),
    Fault("never-fails", "max_share: 0.9", f"{HERE}max_share: 1.0"),
    Fault("never-holds", "values_to_match_regex", "values_to_not_match_regex", says="found in every text",
          points_to="regex: '.?'", elsewhere={REGEX: "regex: '.?'"}),
    Fault("never-holds", "- value: angry", "- value: angry\n        logicalTypeOptions:\n          {HERE}maxLength: 3"
          .replace("{HERE}", HERE), says="line"),
    Fault("same-rule", "max_value: 90\n", f"max_value: 90\n{'':10}- type: custom\n{'':12}engine: greatExpectations\n"
          f"{'':12}{HERE}implementation: {{type: expect_column_values_to_not_be_null}}\n", severity="warning"),
    Fault("redundant", "- value: angry\n", f"- value: angry\n{'':8}quality:\n{'':10}- type: custom\n"
          f"{'':12}engine: greatExpectations\n{'':12}{HERE}implementation:\n"
          f"{'':14}type: expect_column_values_to_be_in_set\n"
          f"{'':14}kwargs: {{value_set: [calm, angry, sad]}}\n", severity="warning"),
    Fault("severity", "severity: critical", f"{HERE}severity: loud", says="'loud'"),
    Fault("engine", "engine: greatExpectations\n            severity", f"{HERE}engine: soda\n            severity",
          says="engine: soda"),
    Fault("engine", "type: expect_column_values_to_match_regex", f"{HERE}type: unexpected_rows_expectation",
          says="SQL", elsewhere={REGEX: "unexpected_rows_query: x"}),
    Fault("implementation", "type: expect_column_values_to_match_regex\n", "tipe: a\n", points_to="implementation:\n"),
    Fault("not-checked", "maxLength: 300", f"maxLength: 300\n          {HERE}format: email", says="not checked here"),
    # the recipe
    Fault("unknown-contract", "rows: rows", f"{HERE}rows: row", RECIPE, says="did you mean 'rows'?"),
]  # fmt: skip


def planted(folder: Path, fault: Fault) -> tuple[Project, tuple[str, int, int]]:
    """A project with one fault, and the file, line and column that lint must point to."""
    marked = FILES[fault.file]
    for old, new in {**fault.elsewhere, fault.old: fault.new}.items():
        assert old in marked, f"{old!r} is not in {fault.file}"
        marked = marked.replace(old, new, 1)
    if fault.points_to:
        assert fault.points_to in marked
        marked = marked.replace(fault.points_to, HERE + fault.points_to, 1)
    before = marked[: marked.index(HERE)]
    project = write(folder, FILES | {fault.file: marked.replace(HERE, "")})
    return project, (str(folder / fault.file), before.count("\n") + 1, len(before) - before.rfind("\n"))
