"""Whether a model's own code may run is decided from its configs, before any of it is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.core.base_model import load_tokenizer, require_allowed_code
from tasks.core.config import ModelSource
from tasks.core.errors import ModelError
from tasks.core.models import check_model, model_digest
from tasks.core.remote_code import architectures, check_remote_code
from tasks.core.vllm.context import own_context_length
from tests.hub_cache import COMMIT, UNPINNED, in_hub_cache
from tests.small_folder import write_small_folder

CODE = {"AutoConfig": "configuration_x.XConfig", "AutoModelForCausalLM": "modeling_x.XForCausalLM"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that looks complete, with code that must never be imported here."""
    write_small_folder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "baichuan", "auto_map": CODE}), encoding="utf-8")
    (tmp_path / "modeling_x.py").write_text("raise SystemExit('it was run')", encoding="utf-8")
    return tmp_path


def test_a_folder_with_code_is_refused_with_what_to_write(folder: Path) -> None:
    with pytest.raises(ModelError, match="'baichuan' runs its own Python code") as caught:
        check_model(ModelSource(path=str(folder)))
    assert caught.value.where == str(folder)
    assert "trust_remote_code: true" in caught.value.remedy and "revision" not in caught.value.remedy


def test_a_folder_with_code_passes_where_the_recipe_allows_it(folder: Path) -> None:
    check_model(ModelSource(path=str(folder), trust_remote_code=True))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="has no"):
        check_model(ModelSource(path=str(folder), trust_remote_code=True))


def test_a_hub_model_with_code_must_be_pinned() -> None:
    with pytest.raises(ModelError, match="'baichuan' runs its own Python code") as caught:
        check_remote_code(ModelSource(path="org/x"), {"model_type": "baichuan", "auto_map": CODE})
    assert "pin its revision" in caught.value.remedy


@pytest.mark.parametrize("revision", [None, "main", "v1.0", COMMIT[:12], COMMIT.upper()])
def test_code_of_a_hub_model_is_allowed_only_at_a_commit(revision: str | None) -> None:
    with pytest.raises(ModelError, match=f"at revision {revision!r}") as caught:
        check_model(ModelSource(path="org/x", revision=revision, trust_remote_code=True))
    assert "commit" in caught.value.remedy
    check_model(ModelSource(path="org/x", revision=COMMIT, trust_remote_code=True))


@pytest.mark.parametrize("in_config", [True, False])
@pytest.mark.parametrize("named", ["org/code--modeling_x.X", [None, "org/code--tokenization_x.X"]])
def test_code_of_another_repository_is_refused_even_where_code_is_allowed(in_config: bool, named: Any) -> None:
    code, plain = {"auto_map": {"AutoX": named}}, {"model_type": "baichuan"}
    config, tokenizer = ({**plain, **code}, {}) if in_config else (plain | {"auto_map": CODE}, code)
    allowed = ModelSource(path="org/x", revision=COMMIT, trust_remote_code=True)
    with pytest.raises(ModelError, match="another repository"):
        check_remote_code(allowed, config, tokenizer)


@pytest.mark.parametrize("load", [require_allowed_code, load_tokenizer, own_context_length])
def test_a_hub_models_tokenizer_is_read_before_anything_is_loaded(
    load: Callable[[ModelSource], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = in_hub_cache(tmp_path, monkeypatch, UNPINNED, trust_remote_code=True)
    with pytest.raises(ModelError, match=r"another repository \(other/code--tokenization_x\.XTokenizer\)"):
        load(allowed)


def test_a_hub_model_with_its_own_pinned_code_may_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = {"tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["tokenization_x.XTokenizer", None]}}}
    allowed = in_hub_cache(tmp_path, monkeypatch, UNPINNED | beside, trust_remote_code=True)
    assert require_allowed_code(allowed)["model_type"] == "qwen2" and own_context_length(allowed) == 64


def test_code_that_is_not_needed_is_not_asked_for() -> None:
    """Phi-3 and Falcon still carry the code of the days before transformers had their classes."""
    check_remote_code(ModelSource(path="org/x"), {"model_type": "phi3", "auto_map": CODE})
    with pytest.raises(ModelError):
        check_remote_code(ModelSource(path="org/x"), {"model_type": "phi33", "auto_map": CODE})


@pytest.mark.parametrize("trust", [False, True])
def test_a_family_without_any_code_is_named(trust: bool, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model family 'baichuan', and the model has no code of its own") as caught:
        check_remote_code(ModelSource(path=str(tmp_path), trust_remote_code=trust), {"model_type": "baichuan"})
    assert "another model" in caught.value.remedy


def test_the_code_is_part_of_a_folders_digest_and_so_is_leave_to_run_it(folder: Path) -> None:
    refused, allowed = (ModelSource(path=str(folder), trust_remote_code=trust) for trust in (False, True))
    before = model_digest(allowed)
    assert model_digest(refused) != before
    (folder / "modeling_x.py").write_text("raise SystemExit('another')", encoding="utf-8")
    assert model_digest(allowed) != before


def test_the_architectures_are_those_of_the_installed_transformers() -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    assert architectures() == set(CONFIG_MAPPING_NAMES)


def test_a_model_is_checked_without_importing_transformers(folder: Path) -> None:
    code = (
        "import sys; from tasks.core.config import ModelSource; from tasks.core.models import check_model;"
        "check_model(ModelSource(path=sys.argv[1], trust_remote_code=True));"
        "assert not {'torch', 'transformers', 'modeling_x'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)
