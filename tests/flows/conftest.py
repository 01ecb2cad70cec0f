"""A complete recipe in a folder of its own, and a machine that seems to have vLLM."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.report.record import RunRecord
from tasks.core.home import PROJECT_ROOT
from tests.flows.small_night import SmallNight, small_night
from tests.small_folder import write_small_folder

EMBEDDED = PROJECT_ROOT / "deployments" / "recipes" / "embedded.yaml"
Change = Callable[[dict[str, Any]], Any]
WriteRecipe = Callable[[Change], str]


@pytest.fixture
def write_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteRecipe:
    """Writes the embedded recipe with a change, beside a source and a model folder of its own; returns its path."""
    monkeypatch.setenv("RETUNE_VLLM_PYTHON", sys.executable)
    monkeypatch.setenv("RETUNE_HOME", str(tmp_path / "home"))
    (tmp_path / "messages.csv").write_text("id,message,queue,topic\n1,lost it,cards,lost card\n", encoding="utf-8")
    model = write_small_folder(tmp_path / "model")
    (model / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")

    def write(change: Change = lambda recipe: None) -> str:
        recipe = yaml.safe_load(EMBEDDED.read_text(encoding="utf-8"))
        recipe["model"]["path"] = "model"
        recipe["collect"]["sources"] = [{"path": "messages.csv"}]
        change(recipe)
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
        return str(path)

    return write


ODD_NAME = "a b,c:d'e\"f\\g é日;h&i=j@k+l~m$n*o[p]{q}(r)#s%41t"
"""A legal name of a folder with what addresses, shells, patterns and templates give a meaning."""


@pytest.fixture(scope="session")
def last_night(tmp_path_factory: pytest.TempPathFactory) -> tuple[SmallNight, RunRecord]:
    """A night that lost a row in every way, in a folder with an odd name: to be read, and left as it is."""
    folder = tmp_path_factory.mktemp("night") / ODD_NAME
    folder.mkdir()
    night = small_night(folder)
    return night, night.run()
