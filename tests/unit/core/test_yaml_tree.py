"""Places and faults in YAML nodes, also where an alias repeats a node or lies within it."""

from __future__ import annotations

import pytest
import yaml

from tasks.core.yaml_tree import broken_texts, doubled_keys, find_node, odd_keys, place_of


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
