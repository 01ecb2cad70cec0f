"""Places and faults in YAML nodes, also where an alias repeats a node or lies within it."""

from __future__ import annotations

import pytest
import yaml

from tasks.core.yaml_tree import broken_texts, doubled_keys, find_node, odd_keys, place_of, yaml_fault


def tree(text: str) -> yaml.Node | None:
    return yaml.compose(text, yaml.SafeLoader)


@pytest.mark.parametrize("text", ["a: &loop [*loop]\n", "&loop {a: *loop}\n"])
def test_an_alias_within_its_own_anchor_is_visited_once(text: str) -> None:
    root = tree(text)
    assert [*doubled_keys(root), *odd_keys(root), *broken_texts(root)] == []


def test_a_fault_behind_two_aliases_is_found_once() -> None:
    root = tree("base: &base {a: 1, a: 2}\none: *base\ntwo: *base\n")
    assert [place_of(key) for key in doubled_keys(root)] == [(1, 20)]


def test_the_deepest_part_of_a_path_that_exists_is_found() -> None:
    root = tree("rows:\n  - name: cards\n    size: 3\n")
    assert find_node(root, ("rows", 0, "size"))[0] == (3, 5)
    assert find_node(root, ("rows", 0, "colour", 1))[0] == (2, 5)
    assert find_node(None, ("rows",)) == ((1, 1), None)


@pytest.mark.parametrize(
    ("text", "place", "remedy"),
    [
        ("a: 1\n\tb: 2\n", (2, 1), "use spaces"),
        ("a:\n\t- 1\n", (2, 1), "use spaces"),
        ("a:\t1\n", (1, 3), "use spaces"),
        ("a: b: c\n", (1, 5), "quotes"),
        ("a:\n  - b: c: d\n", (2, 9), "quotes"),
        ("a: 1\n b: 2\n", (2, 3), "indent the line"),
        ("a:\n  b: 1\n c: 2\n", (3, 2), "indent the line"),
        ("a:\n  - 1\n - 2\n", (3, 2), "indent the line"),
        ("a:b\nc: d\n", (2, 2), "a space after each colon"),
        ("a: 1\nb\nc: 2\n", (2, 1), "key: value"),
        ('a: 1\nb: "c\nd: e\n', (2, 4), "close the quote"),
        ('a: "b\nc: d\ne: "f"\n', (1, 4), "close the quote"),
        ("a: 'it's'\n", (1, 8), "inside it twice"),
        ('a: "C:\\data"\n', (1, 8), "single quotes"),
        ("a: @b\n", (1, 4), "quotes"),
        ("a: 1\n@b: c\n", (2, 1), "quotes"),
        ("a: %b\n", (1, 4), "quotes"),
        ("%a: b\n", (1, 3), "quotes"),
        ("a: `b`\n", (1, 4), "quotes"),
        ("a: *b\n", (1, 4), "quotes"),
        ("a: !b c\n", (1, 4), "quotes"),
        ("a: {{ b }}\n", (1, 5), "quotes"),
        ("a: [b, c\nd: e\n", (2, 2), "close the bracket"),
        ("a: 1\n---\nb: 2\n", (2, 1), "---"),
        ("a: 1\nb: \x07c\n", (2, 4), "control character"),
        ("a: 1\nb: 2026-02-31\n", (2, 4), "quotes"),
        ("[" * 2_000, (1, 1), "nested too deeply"),
    ],
)
def test_text_that_is_not_yaml_is_explained_with_its_place_and_a_remedy(
    text: str, place: tuple[int, int], remedy: str
) -> None:
    with pytest.raises((yaml.YAMLError, ValueError, RecursionError)) as caught:
        yaml.safe_load(text)
    found = yaml_fault(text, caught.value)
    assert found.what and found.place == place and remedy in found.remedy
