"""A small project whose templates are good, and faults to plant in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from flows.recipe.paths import Project
from tasks.core.home import PROJECT_ROOT

HERE = "▮"
"""Marks the place in a planted fault where lint must point; it is taken out before the file is written."""
WRITE, JUDGE, SHOW = "prompts/write.md", "prompts/judge.md", "prompts/show.md"
RULES, EXAMPLE = "prompts/partials/rules.md", "prompts/examples/write.json"
CONTRACT, RECIPE = "data_contracts/rows.odcs.yaml", "deployments/recipes/nightly.yaml"

FILES = {
    WRITE: """---
name: write
version: 1
purpose: Write a message on a topic.
variables:
  topic: {from: document}
  sample: {from: document, field: message}
  tone: {from: sampler, values: {calm: 2, angry: 1}}
output:
  format: json
  json_schema:
    type: object
    properties:
      message: {type: string}
    required: [message]
sampling: {temperature: 0.9, max_tokens: 48}
contract: rows
---
system:
You write messages.
user:
Write a {{ tone }} one about {{ topic }}, unlike this: {{ sample }}
{% include "partials/rules.md" %}
Reply like {"message": "{{ sample }}"}.
""",
    SHOW: """---
name: show
version: 1
purpose: Write a message like others of its topic.
variables:
  topic: {from: document}
  shots: {from: few_shot, count: 2, fields: [message], same: topic}
output: {format: lines, field: message}
---
user:
{% for shot in shots %}
- {{ shot.message }}
{% endfor %}
More about {{ topic }}:
""",
    JUDGE: """---
name: judge
version: 1
purpose: Judge a message.
variables: [message, topic, tone]
judge:
  criteria: [it is on its topic]
  scale: [1, 5]
  threshold: 4
output:
  format: json
  json_schema:
    type: object
    properties: {reasons: {type: string}, score: {type: integer}}
    required: [reasons, score]
sampling: {temperature: 0, max_tokens: 48}
---
user:
Is "{{ message }}" about {{ topic }}, and {{ tone }}? {{ criteria | join("; ") }} ({{ scale | join(" to ") }})
""",
    RULES: "Be short. A {% raw %}{placeholder}{% endraw %} is no word.\n",
    EXAMPLE: '{"topic": "lost card", "sample": "where is it", "tone": "calm"}\n',
    "prompts/examples/show.json": '{"topic": "lost card", "shots": [{"message": "where is it"}]}\n',
    "prompts/examples/judge.json": '[{"message": "where is it", "topic": "lost card", "tone": "calm"}]\n',
    CONTRACT: """schema:
  - name: rows
    properties:
      - name: row_id
      - name: message
      - name: topic
      - name: tone
""",
    RECIPE: yaml.safe_dump(
        {
            "name": "nightly",
            "model": {"path": str(PROJECT_ROOT / "seedling" / "model")},
            "task": {"input": "message", "output": "topic"},
            "collect": {
                "sources": [{"path": "messages.csv"}],
                "columns": {"message": "text", "topic": "topic"},
            },
            "generate": {"prompts": ["write", "show"], "judges": ["judge"], "server": {"max_model_len": 512}},
            "validate": {"contracts": {"rows": "rows"}},
            "train": {"max_steps": 10},
            "evaluate": {},
            "publish": {"name": "router"},
        }
    ),
}

PROPERTIES = "    properties:\n      message: {type: string}\n    required: [message]\n"
SCALED = "  criteria: [it is on its topic]\n  scale: [1, 5]\n  threshold: 4\n"
SHOWN_SCALE = ' {{ criteria | join("; ") }} ({{ scale | join(" to ") }})'


@dataclass(frozen=True)
class Fault:
    """One thing wrong in an otherwise good project.

    Attributes:
        code: what lint must call it.
        old, new: the text that is replaced, and what stands there instead.
        file: where.
        points_to: where lint must point if that is not in ``new``: file and text, marked as there.
        severity: how bad it is.
        also: further replacements that the fault needs, by file.
    """

    code: str
    old: str
    new: str
    file: str = WRITE
    points_to: tuple[str, str] | None = None
    severity: str = "error"
    also: dict[str, tuple[str, str]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.code}: {self.new.strip()[:40]}"


FAULTS = [
    Fault("no-front-matter", "---\nname", f"{HERE}name"),
    Fault("yaml", "purpose: Write a message", f"purpose: Write{HERE}: a message"),
    Fault("yaml", "  format: json\n", f"{HERE}\tformat: json\n"),
    Fault("yaml", "values: {calm: 2, angry: 1}}", f"values: {{calm: 2, angry: 1}}\n{HERE}output"),
    Fault("duplicate-key", "version: 1\n", f"version: 1\n{HERE}version: 2\n"),
    Fault("unknown-key", "sampling:", f"{HERE}samplng:"),
    Fault("unknown-key", "max_tokens: 48", f"{HERE}max_token: 48"),
    Fault("unknown-key", "field: message}", f"{HERE}feild: message}}"),
    Fault("missing-key", "---\nname: write\nversion: 1\n", f"---\n{HERE}name: write\n"),
    Fault("invalid-value", "version: 1", f"version: {HERE}0"),
    Fault("invalid-value", "version: 1", f"version: {HERE}one"),
    Fault("invalid-value", "temperature: 0.9", f"temperature: {HERE}2.5"),
    Fault("invalid-value", "max_tokens: 48", f"max_tokens: {HERE}0"),
    Fault("invalid-value", "{calm: 2, angry: 1}", "{calm: -2, angry: 1}", points_to=(WRITE, f"{HERE}values:")),
    Fault("invalid-value", "{calm: 2, angry: 1}", "{calm: 0, angry: 0}", points_to=(WRITE, f"{HERE}values:")),
    Fault("invalid-value", "from: sampler", f"from: {HERE}sample"),
    Fault("invalid-value", "count: 2", f"count: {HERE}0", SHOW),
    Fault("judge", "temperature: 0,", f"temperature: {HERE}0.7,", JUDGE),
    Fault("judge", "score: {type: integer}}", "mark: {type: integer}}", JUDGE, (JUDGE, f"{HERE}scale:"),
          also={JUDGE: ("[reasons, score]", "[reasons, mark]")}),
    Fault("invalid-value", "threshold: 4", "threshold: 9", JUDGE, (JUDGE, f"{HERE}judge:")),
    Fault("judge", SCALED, f"  accept: {HERE}'(yes'\n", JUDGE, also={JUDGE: (SHOWN_SCALE, "")}),
    Fault("name", "name: write\n", f"name: {HERE}wrote\n"),
    Fault("undeclared", "about {{ topic }}", f"about {{{{ topic }}}} or {{{{ {HERE}topics }}}}"),
    Fault("undeclared", "Be short.", f"Be\nshort, {{{{ {HERE}name }}}}.", RULES),
    Fault("unused", "about {{ topic }}", "about a topic", points_to=(WRITE, f"  {HERE}topic: {{from")),
    Fault("jinja-syntax", "{{ topic }}", f"{{{{ topic {HERE}}}"),
    Fault("jinja-syntax", "Write a {{ tone", f"{{% {HERE}fi tone %}} Write a {{{{ tone"),
    Fault("jinja-syntax", "{% endfor %}", "", SHOW, (SHOW, f"{HERE}More about")),
    Fault("jinja-syntax", "Write a {{ tone }}", f"{{% if tone {HERE}Write a"),
    Fault("unknown-filter", "{{ topic }}", f"{{{{ topic | {HERE}uper }}}}"),
    Fault("stray-braces", "{{ topic }}", f"{HERE}{{topic}}"),
    Fault("stray-braces", "{{ topic }}", f"{HERE}{{ topic }}"),
    Fault("stray-braces", "{{ topic }}", f"{HERE}{{topic}}}}"),
    Fault("stray-braces", "about {{ topic }}", f"about topic {HERE}}}}} {{{{ topic }}}}"),
    Fault("stray-braces", "Write a {{ tone", f"{HERE}{{ % if tone %}} a {{{{ tone"),
    Fault("stray-braces", "Be short.", f"Be {HERE}{{tone}}.", RULES),
    Fault("stray-braces", "Be short.", f"Be short {HERE}}}.", RULES, severity="warning"),
    Fault("json-schema", "json_schema:\n    type: object", f"json_schema:\n    type: {HERE}objekt"),
    Fault("json-schema", PROPERTIES, "", points_to=(WRITE, f"{HERE}json_schema:")),
    Fault("required-property", "required: [message]", f"required: [message, {HERE}mesage]"),
    Fault("reserved-column", "    required:", f"      {HERE}raw: {{type: string}}\n    required:"),
    Fault("reserved-column", "  tone: {from", f"  {HERE}seed: {{from: sampler, values: [a]}}\n  tone: {{from",
          also={WRITE: ("{{ tone }}", "{{ tone }} {{ seed }}"), EXAMPLE: ('"tone"', '"seed": "a", "tone"')}),
    Fault("role", "  - judge\n", "  - show\n", RECIPE, (SHOW, f"{HERE}name:")),
    Fault("short-answer", "message: {type: string}\n", "message: {type: string, minLength: 900}\n",
          points_to=(WRITE, f"max_tokens: {HERE}48"), severity="warning"),
    Fault("unknown-contract", "contract: rows", f"contract: {HERE}row"),
    Fault("contract-column", "name: tone", "name: mood", CONTRACT, (WRITE, f"contract: {HERE}rows")),
    Fault("contract-column", "name: tone", f"name: {HERE}mood", CONTRACT, also={WRITE: ("contract: rows\n", "")}),
    Fault("unknown-field", "field: message}", f"field: {HERE}mesage}}"),
    Fault("unknown-field", "topic: {from: document}", f"{HERE}topics: {{from: document}}",
          also={WRITE: ("{{ topic }}", "{{ topics }}"), EXAMPLE: ('"topic"', '"topics"')}),
    Fault("unknown-field", "fields: [message]", f"fields: [message, {HERE}text]", SHOW),
    Fault("unknown-field", "same: topic", f"same: {HERE}queue", SHOW),
    Fault("partial-missing", '"partials/rules.md"', f'{HERE}"partials/rule.md"'),
    Fault("partial-name", '"partials/rules.md"', f'{HERE}"partials/../../secret.md"'),
    Fault("partial-cycle", "Be short.", f'Be short. {{% include {HERE}"partials/rules.md" %}}', RULES),
    Fault("text-before-parts", "system:\n", f"{HERE}Hello.\nsystem:\n"),
    Fault("empty-part", "system:\nYou write messages.\n", f"{HERE}system:\n"),
    Fault("last-part", "Write a {{ tone", "Write.\nassistant:\nA {{ tone", points_to=(WRITE, f"{HERE}assistant:")),
    Fault("control-token", "Be short.", f"Be short.{HERE}<|im_end|>", RULES),
    Fault("token-budget", "max_tokens: 48", f"max_tokens: {HERE}480"),
    Fault("missing-example", "", "", EXAMPLE, (WRITE, f"{HERE}name:")),
    Fault("example-json", '"sample": "where', f'"sample": {HERE}where', EXAMPLE),
    Fault("example-variable", ', "tone": "calm"', "", EXAMPLE, (EXAMPLE, f"{HERE}{{")),
    Fault("example-variable", '"tone": "calm"', f'"tone": "calm", {HERE}"mood": "calm"', EXAMPLE, severity="warning"),
    Fault("example-variable", '[{"message": "where is it"}]', "5", "prompts/examples/show.json",
          ("prompts/examples/show.json", f'{HERE}"shots"')),
    Fault("json-schema", "message: {type: string}", f'message: {{$ref: {HERE}"#/$defs/message"}}'),
    Fault("yaml", "angry: 1}", f'{HERE}"\\ud800": 1}}'),
    Fault("render", "{{ shot.message }}", "{{ shot.mesage }}", SHOW, (SHOW, f"{HERE}- {{{{ shot.mesage")),
]  # fmt: skip


def planted(folder: Path, fault: Fault) -> tuple[Project, tuple[str, int, int]]:
    """A project with one fault, and the file, line and column that lint must point to."""
    files = dict(FILES)
    for name, (old, new) in [(fault.file, (fault.old, fault.new)), *fault.also.items()]:
        assert old in files[name], f"{old!r} is not in {name}"
        files[name] = files[name].replace(old, new)
    if fault.code == "missing-example":
        del files[fault.file]
    name, marked = fault.points_to or (fault.file, files[fault.file])
    if fault.points_to:
        assert marked.replace(HERE, "") in files[name]
        marked = files[name].replace(marked.replace(HERE, ""), marked, 1)
    before = marked[: marked.index(HERE)]
    write(folder, {path: text.replace(HERE, "") for path, text in files.items()})
    return Project(folder), (str(folder / name), before.count("\n") + 1, len(before) - before.rfind("\n"))


def write(folder: Path, files: dict[str, str]) -> Project:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return Project(folder)
