"""A contract file is held against the standard, and each fault has its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.validate.contracts.odcs import read_file

HEAD = "apiVersion: v3.1.0\nkind: DataContract\nid: rows\nversion: 1.0.0\nstatus: active\n"
TABLE = "schema:\n  - name: rows\n    properties:\n      - name: message\n        logicalType: string\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "rows.odcs.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_place_is_the_line_and_column_of_the_deepest_part_that_exists(tmp_path: Path) -> None:
    file, findings = read_file(written(tmp_path, HEAD + TABLE))
    assert file is not None and findings == []
    assert file.place(("schema", 0, "properties", 0, "logicalType")) == (10, 9)
    assert file.place(("schema", 0, "properties", 0, "enum", 3)) == (9, 9)
    assert file.place(("team",)) == (1, 1)
    assert file.where(("schema", 0)) == f"{file.path}:7"


def test_every_breach_of_the_standard_is_found(tmp_path: Path) -> None:
    text = (HEAD + TABLE).replace("status: active", "statsu: active") + "        requird: true\n        unique: 1\n"
    _, findings = read_file(written(tmp_path, text))
    assert [(finding.line, finding.column, finding.code) for finding in findings] == [
        (5, 1, "unknown-key"),
        (11, 9, "unknown-key"),
        (12, 9, "not-odcs"),
    ]
    assert "did you mean 'status'?" in findings[0].remedy and "did you mean 'required'?" in findings[1].remedy


def test_a_property_without_a_type_lacks_nothing(tmp_path: Path) -> None:
    assert read_file(written(tmp_path, HEAD + TABLE.replace("        logicalType: string\n", "")))[1] == []


def test_dates_stay_text(tmp_path: Path) -> None:
    text = HEAD + "contractCreatedTs: 2026-11-24T00:00:00Z\n" + TABLE
    file, findings = read_file(written(tmp_path, text))
    assert findings == [] and file is not None and file.document.contractCreatedTs == "2026-11-24T00:00:00Z"


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    path.write_bytes(b"\xef\xbb\xbf" + (HEAD + TABLE).encode())
    assert read_file(path)[1] == []


def test_a_key_that_a_merge_brings_may_be_written_again(tmp_path: Path) -> None:
    table = (
        TABLE.replace("- name: message", "- &text\n        name: message") + "      - <<: *text\n        name: queue\n"
    )
    file, findings = read_file(written(tmp_path, HEAD + table))
    assert findings == [] and file is not None
    assert [one.name for one in file.document.schema_[0].properties] == ["message", "queue"]


@pytest.mark.parametrize(
    ("content", "code", "place"),
    [
        (b"a: 1\nb: [1,\n", "yaml", (3, 1)),
        (b"- 1\n", "yaml", (1, 1)),
        (b"", "yaml", (1, 1)),
        (b"a: caf\xe9\n", "encoding", (1, 7)),
        (b"a: !!python/object:os.system x\n", "yaml", (1, 4)),
        (b"a: 1\na: 2\n", "duplicate-key", (2, 1)),
        (b"{a: 1}: 2\n", "yaml", (1, 1)),
        (b"id: &loop [*loop]\n", "not-odcs", (1, 1)),
    ],
)
def test_what_is_no_contract_at_all_is_said_with_its_place(
    tmp_path: Path, content: bytes, code: str, place: tuple[int, int]
) -> None:
    path = tmp_path / "rows.odcs.yaml"
    path.write_bytes(content)
    _, findings = read_file(path)
    assert findings and (findings[0].code, (findings[0].line, findings[0].column)) == (code, place)


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    written(tmp_path, HEAD + TABLE)
    _, findings = read_file(tmp_path / "row.odcs.yaml")
    assert [finding.code for finding in findings] == ["no-file"]
    assert "rows.odcs.yaml" in findings[0].remedy
