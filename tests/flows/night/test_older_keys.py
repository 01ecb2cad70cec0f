"""Artifact keys are made of what they were made of when the stages' versions were last raised (0.5).

See ``tests/fixtures/make_keys.py``. If a key has to change, raise the stage's ``VERSION``, name the change in the
changelog, and write ``older_keys.json`` with the code of that version.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.fixtures.make_home import unpack
from tests.fixtures.make_keys import ARCHIVE, VARIANTS, keys_of

OLDER: dict[str, dict[str, Any]] = json.loads(ARCHIVE.with_name("older_keys.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    with mock.patch.dict(os.environ):
        return keys_of(unpack(ARCHIVE, tmp_path_factory.mktemp("older").resolve()))


@pytest.mark.parametrize("recipe", VARIANTS)
def test_the_stages_of_a_recipe_have_their_older_keys(keys: dict[str, dict[str, Any]], recipe: str) -> None:
    for stage, older in {**OLDER["plain"], **OLDER[recipe]}.items():
        assert keys[recipe].get(stage) == older, f"the key of {stage} changed"


def test_every_recipe_of_the_fixture_has_a_key_of_its_own() -> None:
    assert all(OLDER.values()) and list(OLDER) == sorted(VARIANTS)


def test_the_keys_hold_no_path(keys: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> None:
    assert str(tmp_path_factory.getbasetemp()) not in json.dumps(keys)


def test_the_archive_is_small() -> None:
    assert Path(ARCHIVE).stat().st_size < 300_000
