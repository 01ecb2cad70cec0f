"""Prompt files: everything that is wrong with them is found when they are read, with its line and column."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.core.errors import PromptError
from tasks.core.home import PROJECT_ROOT
from tasks.core.prompts import SUFFIX, DocumentField, Finding, Prompt, Sampler, check_prompt, parse_prompt, read_prompt

HEAD = "name: ask\nversion: 1\npurpose: Ask.\nvariables: [topic]\n"
BODY = "system:\nYou ask.\nuser:\nAbout the topic: {{ topic }}.\n"
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(folder: Path, head: str = HEAD, body: str = BODY, name: str = "ask") -> Path:
    path = folder / f"{name}{SUFFIX}"
    path.write_text(f"---\n{head}---\n{body}", encoding="utf-8")
    return path


def read(folder: Path, head: str = HEAD, body: str = BODY) -> Prompt:
    return read_prompt(write(folder, head, body))


def failure(folder: Path, head: str = HEAD, body: str = BODY) -> PromptError:
    with pytest.raises(PromptError) as caught:
        read(folder, head, body)
    return caught.value


def place(error: PromptError) -> tuple[int, int]:
    line, column = error.where.rsplit(":", 2)[1:]
    return int(line), int(column)


def line(error: PromptError) -> int:
    return place(error)[0]


def findings(folder: Path, head: str = HEAD, body: str = BODY) -> list[Finding]:
    return check_prompt(write(folder, head, body))[1]


def codes(folder: Path, head: str = HEAD, body: str = BODY) -> list[tuple[str, int, int]]:
    return [(finding.code, finding.line, finding.column) for finding in findings(folder, head, body)]


def test_front_matter_and_parts_are_read(tmp_path: Path) -> None:
    prompt = read(tmp_path, HEAD + "sampling: {temperature: 0.5}\nrows_per_document: 3\n")
    assert (prompt.name, prompt.head.variables, prompt.head.rows_per_document) == ("ask", {"topic": DocumentField()}, 3)
    assert (prompt.head.sampling.temperature, prompt.head.sampling.top_p) == (0.5, 1.0)
    assert prompt.parts == (("system", "You ask."), ("user", "About the topic: {{ topic }}."))


def test_a_variable_says_where_it_comes_from(tmp_path: Path) -> None:
    head = HEAD.replace(
        "[topic]", "{topic: {field: subject}, mood: {from: sampler, values: {calm: 3, angry: 1}}, n: {type: number}}"
    )
    variables = read(tmp_path, head, "user:\n{{ topic }} {{ mood }} {{ n }}\n").head.variables
    assert variables["topic"] == DocumentField(field="subject")
    mood = variables["mood"]
    assert isinstance(mood, Sampler) and mood.values == {"calm": 3.0, "angry": 1.0}
    assert variables["n"] == DocumentField(type="number")


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(tmp_path: Path) -> None:
    plain = read(tmp_path)
    path = tmp_path / f"ask{SUFFIX}"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_prompt(path) == plain and read_prompt(path).digest == plain.digest


def test_every_shipped_prompt_is_well_formed() -> None:
    paths = sorted((PROJECT_ROOT / "prompts").glob(f"*{SUFFIX}"))
    assert {read_prompt(path).name for path in paths} >= {"write_message", "vary_message", "check_message"}


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(PromptError, match="does not exist") as caught:
        read_prompt(tmp_path / f"aks{SUFFIX}")
    assert "ask" in caught.value.remedy


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_bytes(path.read_bytes() + b"\xff")
    with pytest.raises(PromptError, match="not UTF-8"):
        read_prompt(path)


@pytest.mark.parametrize("text", ["", "user:\nhi\n", "---\nname: ask\nuser:\nhi\n"])
def test_no_front_matter_is_reported_at_the_first_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / f"ask{SUFFIX}"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PromptError, match="no front matter") as caught:
        read_prompt(path)
    assert line(caught.value) == 1


def test_a_name_other_than_the_files_is_reported_with_its_line(tmp_path: Path) -> None:
    error = failure(tmp_path, "version: 1\npurpose: x\nname: other\nvariables: [topic]\n")
    assert "'other'" in error.what and "ask.md" in error.what and place(error) == (4, 7)
    assert error.remedy == "name: ask"


def test_an_unknown_key_is_reported_with_its_line(tmp_path: Path) -> None:
    error = failure(tmp_path, HEAD + "sampling: {temperature: 0}\nrow_per_document: 3\n")
    assert "row_per_document" in error.what and place(error) == (7, 1)
    nested = failure(tmp_path, HEAD + "sampling:\n  temperature: 0\n  top_q: 1\n")
    assert "sampling.top_q" in nested.what and place(nested) == (8, 3)


def test_a_wrong_value_is_reported_with_its_line(tmp_path: Path) -> None:
    error = failure(tmp_path, HEAD + "sampling: {temperature: 3}\n")
    assert "sampling.temperature" in error.what and place(error) == (6, 25)


def test_front_matter_that_is_not_a_yaml_mapping_is_reported(tmp_path: Path) -> None:
    error = failure(tmp_path, "name: ask\nversion: [1\n")
    assert "not valid YAML" in error.what and 3 <= line(error) <= 4
    assert "Front matter" in failure(tmp_path, "").what
    assert "Front matter" in failure(tmp_path, "- a\n- b\n").what


def test_an_undeclared_variable_is_reported_where_it_is_used_and_not_at_the_same_word_elsewhere(tmp_path: Path) -> None:
    body = "system:\nYou ask.\nuser:\nAbout {{ topic }} in the queue:\n\nit is {{ queue }}.\n"
    error = failure(tmp_path, body=body)
    assert "'queue'" in error.what and place(error) == (12, 10)
    assert "topic" in error.remedy


def test_a_declared_variable_that_is_not_used_is_reported_at_its_declaration(tmp_path: Path) -> None:
    error = failure(tmp_path, HEAD.replace("[topic]", "[topic, queue]"))
    assert "'queue'" in error.what and place(error) == (5, 20)


def test_a_jinja_syntax_error_is_reported_with_its_line(tmp_path: Path) -> None:
    error = failure(tmp_path, body="system:\nYou ask.\nuser:\nfirst\nAbout {{ topic }\nlast\n")
    assert "Jinja2" in error.what and place(error) == (11, 16)
    unknown = failure(tmp_path, body="user:\nAbout\n{{ topic | no_such_filter }}\n")
    assert "no_such_filter" in unknown.what and place(unknown) == (9, 12)


def test_text_before_the_first_part_and_a_last_part_that_asks_nothing_are_reported(tmp_path: Path) -> None:
    assert line(failure(tmp_path, body="\nHello\nuser:\n{{ topic }}\n")) == 8
    assert "last part" in failure(tmp_path, body="user:\n{{ topic }}\nassistant:\nyes\n").what
    assert "last part" in failure(tmp_path, body="").what


SCORED = "{format: json, json_schema: {type: object, properties: {score: {type: integer}}}}"


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ("output: {format: json}", "json_schema"),
        ("output: {format: json, json_schema: {type: object}}", "properties"),
        ("output: {format: json, json_schema: {type: 12, properties: {a: {}}}}", "not a valid JSON Schema"),
        ("output: {format: json, json_schema: {type: string}}", "nor an array"),
        ("output: {format: json, json_schema: {type: array, items: {type: string}}}", "nor an array"),
        ("output: {format: json, json_schema: {type: object, properties: {a b: {}}}}", "'a b' cannot be"),
        (
            "output: {format: json, json_schema: {type: object, properties: {a: {const: 2026-01-01}}}}",
            "text only in quotes",
        ),
        ("output: {json_schema: {type: object, properties: {a: {}}}}", "no meaning"),
        ("output: {format: xml}", "output.format"),
        ("judge: {accept: '('}\nsampling: {temperature: 0}", "not a valid regular expression"),
        ("judge: {accept: x}\nsampling: {top_p: 1}", "temperature 0"),
        ("judge: {}\nsampling: {temperature: 0}", "either accept, or scale"),
        ("judge: {scale: [1, 5]}\nsampling: {temperature: 0}", "threshold"),
        ("judge: {scale: [1, 5], threshold: 6}\nsampling: {temperature: 0}", "threshold"),
        ("judge: {accept: x, threshold: 6}\nsampling: {temperature: 0}", "belongs to a scale"),
        ("judge: {scale: [1, 5], threshold: 4}\nsampling: {temperature: 0}", "property 'score'"),
        ("judge: {accept: x}\nsampling: {temperature: 0}\nrows_per_document: 2", "once for each row"),
        ("version: 2", "'version' appears twice"),
        ("sampling: {top_p: 1, top_p: 0.5}", "'top_p' appears twice"),
        ("stop: &a [x]\nmore: *a", "alias"),
        ("when: 2026-02-31", "not valid YAML"),
        ("x: !!python/object:os.system {}", "not valid YAML"),
        ("x: " + "[" * 5000, "not valid YAML"),
    ],
)
def test_a_head_that_makes_no_sense_is_reported_with_its_line(tmp_path: Path, keys: str, what: str) -> None:
    error = failure(tmp_path, HEAD + keys + "\n")
    assert what in error.what and line(error) >= (2 if what == "not valid YAML" else 5)


@pytest.mark.parametrize(
    ("variables", "what", "column"),
    [
        ("{topic: {from: sampler, values: {a: -1}}}", "weights", 36),
        ("{topic: {from: sampler, values: {a: 0}}}", "weights", 36),
        ("{topic: {from: sampler, values: {a: .nan}}}", "weights", 36),
        ("{topic: {from: sampler, values: []}}", "at least 1", 36),
        ("{topic: {from: sampler, values: [yes, maybe]}}", "in quotes", 45),
        ("{topic: {from: sampler, values: [a, b, a]}}", "'a' is listed twice", 36),
        ("{topic: {from: few_shot, fields: []}}", "at least 1", 37),
        ("{topic: {from: few_shot}}", "Field required", 13),
        ("{topic: {from: elsewhere}}", "from", 27),
        ("{topic: {source: document}}", "Extra inputs", 21),
        ("[topic, topic]", "listed twice", 1),
        ("{topic: {}, my-name: {}}", "my-name", 24),
        ("{topic: {}, loop: {}}", "has a meaning in Jinja2", 24),
    ],
)
def test_a_variable_that_makes_no_sense_is_reported_with_its_place(
    tmp_path: Path, variables: str, what: str, column: int
) -> None:
    error = failure(tmp_path, HEAD.replace("[topic]", variables))
    assert what in error.what and place(error) == (5, column)


def test_a_judge_gets_criteria_and_scale_and_draws_nothing(tmp_path: Path) -> None:
    judge = (
        f"output: {SCORED}\nsampling: {{temperature: 0}}\njudge: {{criteria: [Short.], scale: [1, 5], threshold: 4}}\n"
    )
    body = "user:\n{{ criteria | join }} {{ scale[0] }} {{ topic }}\n"
    assert read(tmp_path, HEAD + judge, body).namespace({"topic": "x", "raw": "y"}) == {
        "topic": "x",
        "criteria": ["Short."],
        "scale": [1, 5],
    }
    sampled = HEAD.replace("[topic]", "{topic: {from: sampler, values: [a]}}")
    assert "'topic' is drawn" in failure(tmp_path, sampled + judge, body).what
    declared = HEAD.replace("[topic]", "[topic, scale]")
    assert "do not declare it" in failure(tmp_path, declared + judge, body).remedy
    (hidden,) = findings(tmp_path, HEAD + judge, "user:\n{{ topic }}\n")
    assert hidden.severity == "warning" and "criteria" in hidden.what and (hidden.line, hidden.column) == (8, 9)
    read(tmp_path, HEAD + judge, "user:\n{{ topic }}\n")  # a warning stops nothing


def test_every_fault_of_a_file_is_found_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    head = "name: oops\nversion: 1\npurpose: x\nvariables: [topic, queue]\noutput: {format: json}\n"
    body = "Hello\nsystem:\n{{ tpic }}\nuser:\n{{ topic | nope }}\nassistant:\n{% if %}\n"
    assert codes(tmp_path, head, body) == [
        ("name", 2, 7),
        ("json-schema", 6, 1),
        ("text-before-parts", 8, 1),
        ("undeclared", 10, 4),
        ("unknown-filter", 12, 12),
        ("last-part", 13, 1),
        ("jinja-syntax", 14, 7),
    ]


def test_faults_of_the_body_are_found_below_a_head_that_cannot_be_used(tmp_path: Path) -> None:
    assert codes(tmp_path, HEAD + "extra: 1\n", "user:\n{{ topic }\n") == [
        ("unknown-key", 6, 1),
        ("jinja-syntax", 9, 10),
    ]


@pytest.mark.parametrize(
    ("body", "code", "at"),
    [
        ("user:\n{{ topic }}\nsystem:\nx\nuser:\ny\n", "part-order", (9, 1)),
        ("assistant:\nx\nuser:\n{{ topic }}\n", "part-order", (7, 1)),
        ("user:\nx\nuser:\n{{ topic }}\n", "part-order", (9, 1)),
        ("system:\n\nuser:\n{{ topic }}\n", "empty-part", (7, 1)),
        ("user:\n\n\n{{ topic }\n", "jinja-syntax", (10, 10)),
        ("user:\n{{ topic }}\n{{ 'abc }}\n", "jinja-syntax", (9, 4)),
        ("user:\n{{ topic }}\n  {% endif %}\n", "jinja-syntax", (9, 6)),
        ("user:\n{{ topic }} {{ topic | random }}\n", "unknown-filter", (8, 24)),
        ("user:\n{{ topic }} {{ topic is nice }}\n", "unknown-filter", (8, 25)),
        ("user:\n{{ topic }}\n{% extends 'x' %}\n", "jinja-syntax", (9, 1)),
        ("user:\n{{ topic }}\n{{ lipsum() }}\n", "undeclared", (9, 4)),
        ("user:\n{{ topic }} topc {# topc #} {{ topc }}\n", "undeclared", (8, 32)),
        ("user:\n{{ " + "(" * 5000 + "\n", "jinja-syntax", (8, 1)),
        ("user:\n{{ " + "9" * 5000 + " }}\n", "jinja-syntax", (8, 1)),
        ("user:\n" + "{% for a in b %}" * 25 + "{% endfor %}" * 25 + "\n", "jinja-syntax", (8, 1)),
    ],
)
def test_a_body_that_makes_no_sense_is_reported_with_line_and_column(
    tmp_path: Path, body: str, code: str, at: tuple[int, int]
) -> None:
    assert (code, *at) in codes(tmp_path, body=body)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("expression", ["'a' * 10 ** 10", "10 ** (10 ** 10)", "'a' | center(10000000000)"])
def test_reading_a_template_computes_no_part_of_it(tmp_path: Path, expression: str) -> None:
    """Jinja2's compiler would compute these constants: 10 GB, or for ever."""
    assert read(tmp_path, body=f"user:\n{{{{ {expression} }}}} {{{{ topic }}}}\n").parts[0][0] == "user"


def test_a_json_output_fills_the_columns_of_its_schema(tmp_path: Path) -> None:
    schema = "{type: object, properties: {message: {type: string}, mood: {type: string}}}"
    assert read(tmp_path, HEAD + f"output: {{format: json, json_schema: {schema}}}\n").head.output.fields == (
        "message",
        "mood",
    )


def test_the_digest_changes_with_what_shapes_a_request_and_not_with_the_purpose(tmp_path: Path) -> None:
    digest = read(tmp_path).digest
    assert read(tmp_path, HEAD.replace("purpose: Ask.", "purpose: Ask well.")).digest == digest
    assert read(tmp_path, HEAD + "\n# a comment\n").digest == digest
    changed = [
        read(tmp_path, HEAD.replace("version: 1", "version: 2")).digest,
        read(tmp_path, HEAD + "sampling: {temperature: 0.9}\n").digest,
        read(tmp_path, HEAD + "output: {field: other}\n").digest,
        read(tmp_path, body=BODY.replace("You ask", "You answer")).digest,
    ]
    assert len({digest, *changed}) == 5


def test_the_order_of_a_schemas_properties_is_part_of_the_digest(tmp_path: Path) -> None:
    one, other = (
        read(tmp_path, HEAD + f"output: {{format: json, json_schema: {{type: object, properties: {properties}}}}}\n")
        for properties in ("{a: {}, b: {}}", "{b: {}, a: {}}")
    )
    assert one.digest != other.digest


@quick
@given(st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=80))
def test_any_file_is_a_prompt_or_a_prompt_error_with_its_place(tmp_path: Path, body: str) -> None:
    prompt, found = parse_prompt(f"---\n{HEAD}---\nuser:\n{{{{ topic }}}}{body}", tmp_path / "ask.md")
    last = body.count("\n") + 9
    assert all(finding.path == str(tmp_path / "ask.md") and 1 <= finding.line <= last for finding in found)
    assert (prompt is None) == any(finding.severity == "error" for finding in found)
    assert prompt is None or prompt.parts[-1][0] == "user"


@quick
@given(st.text(max_size=60) | st.text("{}[]:,-&*!|>'\"# \nabc", max_size=60))
def test_any_head_is_a_prompt_or_findings_with_their_places(tmp_path: Path, text: str) -> None:
    prompt, found = parse_prompt(f"---\n{HEAD}{text}\n---\n{BODY}", tmp_path / "ask.md")
    assert (prompt is None) == any(finding.severity == "error" for finding in found)
    assert all(finding.line >= 1 and finding.column >= 1 for finding in found)


@quick
@given(st.lists(st.sampled_from(["{{", "}}", "{%", "%}", "{#", "#}", " if ", " for ", "topic", "'", "(", "\n", " x "])))
def test_any_jinja_is_a_template_or_a_finding_in_its_lines(tmp_path: Path, words: list[str]) -> None:
    body = "".join(words)
    prompt, found = parse_prompt(f"---\n{HEAD}---\nuser:\n{{{{ topic }}}}{body}\n", tmp_path / "ask.md")
    lines = body.split("\n")
    for finding in found:
        if finding.line >= 8:
            assert finding.column <= len("{{ topic }}" + lines[finding.line - 8]) + 1
    assert (prompt is None) == bool(found)


JSON_HEAD = HEAD + "output:\n  format: json\n  json_schema:\n    type: object\n    properties:\n"


def schema_fault(folder: Path, properties: str, rest: str = "") -> Finding:
    (finding,) = findings(folder, f"{JSON_HEAD}      {properties}\n{rest}")
    assert finding.code == "json-schema"
    return finding


@pytest.mark.parametrize(
    "reference",
    [
        "#/$defs/no",
        "#no",
        "other.json",
        "https://example.com/schema.json",
        "file:///etc/passwd",
        "https://json-schema.org/draft/2020-12/schema",
        "#/required/0",
        "#/type/x",
        "#/x-broken",
    ],
)
def test_a_reference_that_does_not_lead_to_a_schema_in_the_text_is_reported_at_its_place(
    tmp_path: Path, reference: str
) -> None:
    rest = "    required: [a]\n    x-broken: {required: 5}\n"
    finding = schema_fault(tmp_path, f'a: {{$ref: "{reference}"}}', rest)
    assert reference in finding.what and (finding.line, finding.column) == (11, 17)


@pytest.mark.parametrize(
    "properties",
    [
        'a: {$ref: "#/properties/a"}',
        'a: {allOf: [{$ref: "#/properties/a"}]}',
        'default: {anyOf: [{type: string}, {not: {$ref: "#/properties/default"}}]}',
    ],
)
def test_a_reference_that_never_ends_is_reported(tmp_path: Path, properties: str) -> None:
    finding = schema_fault(tmp_path, properties)
    assert "without end" in finding.what and finding.line == 11


def test_references_that_end_are_fine(tmp_path: Path) -> None:
    head = JSON_HEAD + (
        '      a: {$ref: "#/$defs/tree"}\n      $ref: {type: string}\n      b: {$ref: "#leaf"}\n'
        '      c: {const: {$ref: "#/no"}}\n    $defs:\n      leaf: {$anchor: leaf, type: string}\n'
        '      tree: {type: object, properties: {children: {type: array, items: {$ref: "#/$defs/tree"}}}}\n'
    )
    assert [finding.code for finding in findings(tmp_path, head.replace("      $ref: {type: string}\n", ""))] == []


def test_patterns_that_cannot_be_tried_within_a_time_limit_are_reported(tmp_path: Path) -> None:
    finding = schema_fault(tmp_path, 'a: {type: object, patternProperties: {"^(a+)+$": {}}}')
    assert "names" in finding.what and (finding.line, finding.column) == (11, 25)
    assert schema_fault(tmp_path, 'a: {type: string, pattern: "(a"}').line == 11


@pytest.mark.parametrize(
    "body",
    [
        "{{ " + " + ".join(["topic"] * 2000) + " }}",
        "{{ topic" + " | upper" * 3000 + " }}",
        "{{ topic" + ".a" * 3000 + " }}",
        "{{ " + "-" * 3000 + "1 ~ topic }}",
        "{% if topic %}" * 300 + "{% endif %}" * 300,
    ],
    ids=["sum", "filters", "attributes", "signs", "ifs"],
)
def test_an_expression_that_nests_too_deeply_is_a_finding(tmp_path: Path, body: str) -> None:
    assert codes(tmp_path, body=f"user:\n{body}\n")[0][0] == "jinja-syntax"


@quick
@given(count=st.integers(50, 1200), piece=st.sampled_from([" + topic", " | upper", ".a", "[0]", " ~ topic", "()"]))
def test_an_expression_of_any_length_is_read_or_a_finding(tmp_path: Path, count: int, piece: str) -> None:
    prompt, found = check_prompt(write(tmp_path, body="user:\n{{ topic" + piece * count + " }}\n"))
    assert (prompt is None) == bool(found)


def test_half_a_surrogate_pair_in_the_head_is_reported_at_its_place(tmp_path: Path) -> None:
    head = HEAD.replace("[topic]", r'{topic: {}, mood: {from: sampler, values: [calm, "\ud800"]}}')
    assert codes(tmp_path, head, "user:\n{{ topic }} {{ mood }}\n") == [("yaml", 5, 61)]
    assert codes(tmp_path, HEAD + 'sampling: {stop: ["\\ud800"]}\n') == [("yaml", 6, 19)]


UNQUOTED = ["3.10", "007", "0x1F", "12:30", "1_000", "yes", "Off", "~", "null", "2026-11-28", ".5", "7"]


@pytest.mark.parametrize("written", UNQUOTED)
@pytest.mark.parametrize(
    "key",
    [
        "variables: {{topic: {{from: sampler, values: [a, {}]}}}}",
        "variables: {{topic: {{from: sampler, values: {{a: 1, {}: 2}}}}}}",
        "variables: [topic, {}]",
        "variables: {{topic: {{from: few_shot, fields: [{}]}}}}",
        "judge: {{criteria: [a, {}], scale: [1, 5], threshold: 4}}",
        "sampling: {{stop: [{}]}}",
        "output: {{format: json, json_schema: {{properties: {{a: {{type: string, enum: [b, {}]}}}}}}}}",
        "output: {{format: json, json_schema: {{properties: {{a: {{type: string, const: {}}}}}}}}}",
        "output: {{format: json, json_schema: {{properties: {{a: {{}}, {}: {{}}}}}}}}",
        "output: {{format: json, json_schema: {{properties: {{a: {{}}}}, required: [a, {}]}}}}",
    ],
)
def test_a_value_that_yaml_reads_as_another_than_the_text_is_to_be_quoted(
    tmp_path: Path, key: str, written: str
) -> None:
    name = key.partition(":")[0]
    head = "".join(line for line in HEAD.splitlines(keepends=True) if not line.startswith(name))
    (found,) = [
        finding for finding in findings(tmp_path, head + key.format(written) + "\n") if finding.code == "not-text"
    ]
    row = found.line
    assert f" in line {row}: {written}" in found.what and found.remedy == f'quote it: "{written}"'
    assert found.column == 1 + (head + key.format(written)).splitlines()[row - 2].rindex(written)
    quoted = head + key.format(f'"{written}"') + "\n"
    assert "not-text" not in {finding.code for finding in findings(tmp_path, quoted)}


def test_all_values_to_quote_are_one_fault(tmp_path: Path) -> None:
    head = HEAD.replace(
        "[topic]",
        "\n  topic: {}\n  size: {from: sampler, values: {1: 2, 1.10: 1}}"
        "\n  day: {from: sampler, values: [yes, 'no', x]}",
    )
    error = failure(tmp_path, head)
    assert "variables.size.values in line 7: 1, 1.10 (read as 1.1); " in error.what
    assert error.what.endswith("variables.day.values in line 8: yes (read as True)")
    assert error.remedy == 'quote it: "1", "1.10", "yes"' and line(error) == 7


@pytest.mark.parametrize("choices", ["[1, 2.5, 1e3]", "[true, null]", "['yes', \"3.10\"]"])
def test_choices_of_a_schema_that_are_no_texts_stay_what_they_are(tmp_path: Path, choices: str) -> None:
    schema = (
        f"{{type: object, properties: {{a: {{enum: {choices}}}, b: {{type: number, enum: [1.50]}}}}, required: [a]}}"
    )
    read(tmp_path, f"{HEAD}output: {{format: json, json_schema: {schema}}}\n")
