"""Everything that can be wrong with a recipe is one message with its place, before anything is started."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.recipe.checks import check_recipe
from flows.recipe.named_files import prompts_of
from flows.recipe.paths import Project
from flows.recipe.read import read_recipe, recipe_path
from tasks.core.config import ModelSource
from tasks.core.errors import (
    ContractError,
    MachineError,
    ModelError,
    PromptError,
    RecipeError,
    RetuneError,
    SourceError,
)
from tasks.core.home import PROJECT_ROOT
from tests.flows.conftest import Change, WriteRecipe
from tests.small_folder import write_small_folder

Data = dict[str, Any]
SHIPPED = sorted(path.stem for path in Project().recipes.glob("*.yaml"))


def refused(write_recipe: WriteRecipe, change: Change) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        read_recipe(write_recipe(change))
    return caught.value


def line(error: RetuneError) -> str:
    """The line of the file that an error points to."""
    path, number = error.where.rsplit(":", 1)
    return Path(path).read_text(encoding="utf-8").splitlines()[int(number) - 1].strip()


def checked(write_recipe: WriteRecipe, change: Change = lambda recipe: None) -> None:
    check_recipe(read_recipe(write_recipe(change)))


def change(*keys: Any, to: Any) -> Change:
    """A change that sets the value of nested keys."""

    def apply(recipe: Data) -> None:
        section: Any = recipe
        for key in keys[:-1]:
            section = section[key]
        section[keys[-1]] = to

    return apply


def with_seedling(folder: Path) -> None:
    """Give the recipe a model that can be looked into."""
    shutil.copytree(PROJECT_ROOT / "seedling" / "model", folder / "model", dirs_exist_ok=True)


def test_the_shipped_recipes_are_there() -> None:
    assert {"embedded", "qwen2.5-0.5b-cpu", "llama-3.1-8b-qlora"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_is_well_formed_and_so_are_the_files_it_names(
    name: str, monkeypatch: pytest.MonkeyPatch, write_recipe: WriteRecipe
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # its models need not be there
    recipe = read_recipe(name)
    assert recipe.name == name
    if recipe.model.is_local and not Path(recipe.model.path).is_dir():  # of a public model that was not fetched
        with pytest.raises(ModelError, match="retune model get") as caught:
            check_recipe(recipe)
        assert not caught.value.others, "all else is in order"
        return
    check_recipe(recipe)


def test_paths_become_absolute_and_names_are_found_in_the_project(write_recipe: WriteRecipe, tmp_path: Path) -> None:
    recipe = read_recipe(write_recipe(change("description", to="two\n lines ")))
    assert recipe.model == ModelSource(path=str(tmp_path / "model")) and recipe.model.is_local
    assert getattr(recipe.collect.sources[0], "path", None) == str(tmp_path / "messages.csv")
    assert recipe.generate is not None
    assert recipe.generate.prompts[0] == str(PROJECT_ROOT / "prompts" / "write_message.md")
    assert dict(recipe.validate_.contracts) == {
        "documents": str(PROJECT_ROOT / "data_contracts" / "raw_documents.odcs.yaml"),
        "rows": str(PROJECT_ROOT / "data_contracts" / "generated_rows.odcs.yaml"),
        "training_set": str(PROJECT_ROOT / "data_contracts" / "training_set.odcs.yaml"),
        "evaluations": str(PROJECT_ROOT / "data_contracts" / "evaluation_set.odcs.yaml"),
    }
    assert recipe.description == "two lines"
    check_recipe(recipe)


def test_prompts_contracts_and_data_sets_may_lie_beside_the_recipe(write_recipe: WriteRecipe, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()

    def beside(recipe: Data) -> None:
        recipe["generate"]["prompts"] = ["own/ask.md"]
        recipe["validate"]["contracts"] = {"rows": "own.odcs.yaml"}
        recipe["validate"]["contamination"]["evaluation_sets"] = {"exam": {"path": "exam.csv"}}
        recipe["validate"]["same_meaning"] = {"model": {"path": "set"}}
        recipe["generate"]["teacher"] = {"path": "Qwen/Qwen2.5-0.5B-Instruct"}
        recipe["collect"]["sources"] = [{"hub": "set"}, {"hub": "mlabonne/FineTome-100k"}]

    recipe = read_recipe(write_recipe(beside))
    assert recipe.generate is not None and recipe.generate.teacher is not None
    assert recipe.generate.prompts == (str(tmp_path / "own" / "ask.md"),)
    assert recipe.validate_.contracts.rows == str(tmp_path / "own.odcs.yaml")
    assert recipe.validate_.contracts.documents == str(PROJECT_ROOT / "data_contracts" / "raw_documents.odcs.yaml")
    assert recipe.validate_.contamination.evaluation_sets["exam"].path == str(tmp_path / "exam.csv")
    assert recipe.validate_.same_meaning is not None
    assert recipe.validate_.same_meaning.model.path == str(tmp_path / "set")
    assert not recipe.generate.teacher.is_local
    hubs = [getattr(source, "hub", None) for source in recipe.collect.sources]
    assert hubs == [str(tmp_path / "set"), "mlabonne/FineTome-100k"]


def test_an_unknown_recipe_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no recipe 'embeded'") as caught:
        recipe_path("embeded")
    assert "did you mean 'embedded'?" in caught.value.remedy and "qwen2.5-0.5b-cpu" in caught.value.remedy
    with pytest.raises(RecipeError) as caught:
        recipe_path(str(tmp_path / "mine.yaml"))
    assert caught.value.where == str(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    ("keys", "name", "suggestion"),
    [
        (("trian",), "trian", "train"),
        (("train", "learningrate"), "train.learningrate", "learning_rate"),
        (("validate", "contract"), "validate.contract", "contracts"),
        (("validate", "contamination", "tresholds"), "validate.contamination.tresholds", "threshold"),
        (("evaluate", "gate", "margin_over_bass"), "evaluate.gate.margin_over_bass", "margin_over_base"),
        (("generate", "server", "dtipe"), "generate.server.dtipe", "dtype"),
    ],
)
def test_an_unknown_key_is_told_with_its_line_and_the_nearest(
    write_recipe: WriteRecipe, keys: tuple[str, ...], name: str, suggestion: str
) -> None:
    error = refused(write_recipe, change(*keys, to=1))
    assert f"Unknown key {name!r}" in error.what
    assert line(error).startswith(f"{keys[-1]}:")
    assert f"did you mean {suggestion!r}?" in error.remedy


def test_an_unknown_key_of_a_source_is_told_with_its_line(write_recipe: WriteRecipe) -> None:
    error = refused(write_recipe, change("collect", "sources", to=[{"path": "a.csv", "fromat": "csv"}]))
    assert "collect.sources.0" in error.what and "fromat" in error.what
    assert line(error) == "fromat: csv"
    assert "did you mean 'format'?" in error.remedy


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("train", "learning_rate"), "fast"),
        (("train", "method"), "magic"),
        (("collect", "holdout_fraction"), 1.5),
        (("evaluate", "gate", "minimum_rows"), "many"),
        (("generate", "concurrency"), 0),
        (("publish", "name"), "has spaces"),
    ],
)
def test_a_wrong_value_is_told_with_its_line(write_recipe: WriteRecipe, keys: tuple[str, ...], value: Any) -> None:
    error = refused(write_recipe, change(*keys, to=value))
    assert error.what.startswith(".".join(keys) + ": ")
    assert line(error) == f"{keys[-1]}: {value}"


def test_a_missing_section_and_several_problems_are_told(write_recipe: WriteRecipe) -> None:
    def drop(recipe: Data) -> None:
        del recipe["publish"]
        recipe["seed"] = "x"
        recipe["zzz"] = 1

    error = refused(write_recipe, drop)
    assert "Unknown key 'zzz'" in str(error) and "publish: Field required" in str(error) and "seed:" in str(error)
    assert len(error.others) == 2
    assert "publish" in refused(write_recipe, lambda recipe: recipe.pop("publish")).what


@pytest.mark.parametrize("text", ["", "- a\n", "name: [", "just text", "a: b: c"])
def test_a_file_that_is_no_recipe_at_all_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        read_recipe(str(tmp_path / "mine.yaml"))
    assert caught.value.where.startswith(str(tmp_path / "mine.yaml"))


def test_all_that_is_wrong_is_told_at_once_and_each_fault_once(write_recipe: WriteRecipe, tmp_path: Path) -> None:
    (tmp_path / "ask.md").write_text("---\nname: ask\n\tversion: 1\n---\nuser:\nx\n", encoding="utf-8")

    def wrong(recipe: Data) -> None:
        recipe["collect"]["columns"]["topic"] = "topics"
        recipe["generate"]["prompts"] = ["ask.md"]
        recipe["validate"]["contracts"]["documents"] = "raw_document"

    with pytest.raises(SourceError, match="no column 'topics'") as caught:
        checked(write_recipe, wrong)
    assert str(caught.value).count("The front matter is not valid YAML") == 1
    assert "raw_document.odcs.yaml" in str(caught.value), "also what the checks after the first find"


def test_a_missing_model_does_not_hide_what_is_wrong_with_the_data(write_recipe: WriteRecipe) -> None:
    def wrong(recipe: Data) -> None:
        recipe["collect"]["columns"]["topic"] = "topics"
        recipe["model"]["path"] = "./none"

    with pytest.raises(SourceError, match="no column 'topics'") as caught:
        checked(write_recipe, wrong)
    assert [type(other) for other in caught.value.others] == [ModelError]


def test_a_label_that_where_misspells_is_offered_the_nearest(write_recipe: WriteRecipe) -> None:
    with pytest.raises(RecipeError, match=r"collect\.where asks for 'bils'") as caught:
        checked(write_recipe, change("collect", "where", to={"queue": ["cards", "bils"]}))
    assert "did you mean 'bills'" in caught.value.remedy


@pytest.mark.parametrize("line", ["\tseed: 1", "description: a: b", 'description: "a', "description: @a", "  seed: 1"])
def test_a_recipe_that_is_not_yaml_is_told_with_its_line_and_a_remedy(write_recipe: WriteRecipe, line: str) -> None:
    path = Path(write_recipe(lambda recipe: None))
    path.write_text(f"name: mine\n{line}\n{path.read_text(encoding='utf-8')}", encoding="utf-8")
    with pytest.raises(RecipeError, match="not valid YAML") as caught:
        read_recipe(str(path))
    assert caught.value.where.startswith(f"{path}:2:") and caught.value.remedy


def test_a_file_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(RecipeError, match="UTF-8") as caught:
        read_recipe(str(tmp_path / "mine.yaml"))
    assert caught.value.where == str(tmp_path / "mine.yaml")


def test_a_missing_source_and_a_missing_column_are_told(write_recipe: WriteRecipe) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        checked(write_recipe, change("collect", "sources", to=[{"path": "none.csv"}]))
    with pytest.raises(SourceError, match="no column 'text'") as caught:
        checked(write_recipe, change("collect", "columns", "message", to="text"))
    assert "id, message, queue, topic" in caught.value.remedy


def test_an_unknown_prompt_and_one_whose_variable_no_row_has_are_told(write_recipe: WriteRecipe) -> None:
    with pytest.raises(PromptError, match="does not exist"):
        checked(write_recipe, change("generate", "prompts", to=["write_massage"]))
    with pytest.raises(PromptError, match="reads 'topic', which is not a field") as caught:
        checked(write_recipe, change("collect", "columns", to={"message": "message", "queue": "queue"}))
    assert "message, queue" in caught.value.remedy


def test_a_key_that_stands_twice_is_refused_with_its_line(write_recipe: WriteRecipe, tmp_path: Path) -> None:
    path = Path(write_recipe(lambda recipe: None))
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "seed: 8\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="'seed' appears twice") as caught:
        read_recipe(str(path))
    assert caught.value.where == f"{path}:{text.count(chr(10)) + 1}"


def test_a_list_within_itself_is_a_wrong_value(write_recipe: WriteRecipe) -> None:
    path = Path(write_recipe(lambda recipe: recipe.pop("publish")))
    path.write_text(path.read_text(encoding="utf-8") + "publish: &loop [*loop]\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="publish"):
        read_recipe(str(path))


def test_a_recipe_that_is_nested_too_deeply_is_not_read(write_recipe: WriteRecipe) -> None:
    path = Path(write_recipe(lambda recipe: None))
    path.write_text("name: " + "[" * 5000 + "]" * 5000, encoding="utf-8")
    with pytest.raises(RecipeError, match="not valid YAML"):
        read_recipe(str(path))


def test_a_misspelt_field_of_the_task_is_told_where_a_source_maps_the_columns(write_recipe: WriteRecipe) -> None:
    def misspelt(recipe: Data) -> None:
        recipe.pop("generate")
        recipe["collect"]["sources"][0]["columns"] = recipe["collect"].pop("columns")
        recipe["task"]["input"] = "mesage"

    with pytest.raises(RecipeError, match=r"task\.input names the field 'mesage'") as caught:
        checked(write_recipe, misspelt)
    assert "did you mean 'message'" in caught.value.remedy


def test_a_judge_needs_something_to_judge_by(write_recipe: WriteRecipe) -> None:
    with pytest.raises(PromptError, match="judge"):
        checked(write_recipe, change("generate", "judges", to=["write_message"]))


def test_a_judge_among_the_prompts_that_write_rows_is_told(write_recipe: WriteRecipe) -> None:
    with pytest.raises(PromptError, match="judges rows") as caught:
        checked(write_recipe, change("generate", "prompts", to=["write_message", "check_message"]))
    assert "generate.judges: [check_message]" in caught.value.remedy


def test_a_sampler_with_the_name_of_a_column_that_every_row_has_is_told(
    write_recipe: WriteRecipe, tmp_path: Path
) -> None:
    variables = "variables: {topic: {}, drawn: {from: sampler, values: [a, b]}}\noutput: {field: message}\n"
    head = f"name: ask\nversion: 1\npurpose: x\n{variables}"
    (tmp_path / "ask.md").write_text(f"---\n{head}---\nuser:\n{{{{ topic }}}} {{{{ drawn }}}}.\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="'drawn' has the name of a column"):
        checked(write_recipe, change("generate", "prompts", to=["ask.md"]))


def test_a_prompt_named_twice_is_told(write_recipe: WriteRecipe) -> None:
    """Its rows would have the same ids."""
    with pytest.raises(RecipeError, match="write_message"):
        checked(write_recipe, change("generate", "prompts", to=["write_message", "write_message"]))


@pytest.mark.parametrize(
    ("boundary", "shipped", "good", "wrong"),
    [
        ("documents", "raw_documents", "- name: source", "- name: prompt"),
        ("rows", "generated_rows", "- name: queue", "- name: queu"),
        ("training_set", "training_set", "- name: origin", "- name: origen"),
        ("training_set", "training_set", "- name: label_distance", "- name: label_distanse"),
        ("evaluations", "evaluation_set", "- name: source", "- name: row_id"),
    ],
)
def test_a_contract_that_is_missing_or_names_an_unknown_column_is_told_at_every_boundary(
    write_recipe: WriteRecipe, tmp_path: Path, boundary: str, shipped: str, good: str, wrong: str
) -> None:
    with pytest.raises(ContractError):
        checked(write_recipe, change("validate", "contracts", to={boundary: "no_such"}))
    text = (PROJECT_ROOT / "data_contracts" / f"{shipped}.odcs.yaml").read_text(encoding="utf-8")
    (tmp_path / "own.odcs.yaml").write_text(text.replace(f"{good}\n", f"{wrong}\n"), encoding="utf-8")
    with pytest.raises(ContractError, match=wrong.removeprefix("- name: ")) as caught:
        checked(write_recipe, change("validate", "contracts", to={boundary: "own.odcs.yaml"}))
    assert line(caught.value) == wrong


def test_an_evaluation_set_that_is_missing_is_told(write_recipe: WriteRecipe) -> None:
    exam = {"exam": {"path": "exam.csv", "column": "question"}}
    with pytest.raises(RecipeError, match="exam"):
        checked(write_recipe, change("validate", "contamination", "evaluation_sets", to=exam))


def test_a_task_that_names_no_field_is_told(write_recipe: WriteRecipe) -> None:
    with pytest.raises(RecipeError, match=r"task\.output names the field 'label'") as caught:
        checked(write_recipe, change("task", "output", to="label"))
    assert "message, queue, topic" in caught.value.remedy
    with pytest.raises(RecipeError, match=r"task\.context names the field 'input'"):
        checked(write_recipe, change("task", "context", to="input"))


def test_a_task_that_generated_conversations_lack_is_told(write_recipe: WriteRecipe, tmp_path: Path) -> None:
    prompt = "---\nname: ask\nversion: 1\npurpose: x\n---\nuser:\nAsk.\n"
    (tmp_path / "ask.md").write_text(prompt, encoding="utf-8")
    (tmp_path / "talks.jsonl").write_text('{"conversations": []}\n', encoding="utf-8")

    def talks(recipe: Data) -> None:
        recipe["collect"] = {"sources": [{"path": "talks.jsonl", "form": "sharegpt"}]}
        recipe["generate"] |= {"prompts": ["ask.md"], "judges": []}
        recipe["validate"]["contracts"] = {"rows": "chat_examples"}

    with pytest.raises(RetuneError, match=r"task\.input names the field 'message'"):
        checked(write_recipe, talks)


def test_a_model_without_weights_is_told_for_base_and_teacher(write_recipe: WriteRecipe, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        checked(write_recipe, change("generate", "teacher", to={"path": "./teacher"}))
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        checked(write_recipe)


def test_base_teacher_and_adapter_are_whole_before_anything_starts(write_recipe: WriteRecipe, tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 134217728\n"
    teacher = write_small_folder(tmp_path / "teacher")
    (teacher / "model.safetensors").write_text(pointer, encoding="utf-8")
    with pytest.raises(ModelError, match="is a pointer") as caught:
        checked(write_recipe, change("generate", "teacher", to={"path": "./teacher"}))
    assert caught.value.where == str(teacher / "model.safetensors")
    with pytest.raises(ModelError, match=r"no adapter_config\.json"):
        checked(write_recipe, change("generate", "adapter", to="./teacher"))


def test_a_machine_without_vllm_is_told(write_recipe: WriteRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_recipe(lambda recipe: None)
    monkeypatch.setenv("RETUNE_VLLM_PYTHON", "/no/such/python")
    with pytest.raises(MachineError, match="vLLM's environment is missing"):
        check_recipe(read_recipe(path))


@pytest.mark.parametrize("mix", [{"replay": ["chats"]}, {"source_weights": {"chats": 2.0}}])
def test_a_mix_that_names_a_source_nobody_has_is_told(write_recipe: WriteRecipe, mix: dict[str, Any]) -> None:
    def change(recipe: dict[str, Any]) -> None:
        recipe["train"]["mix"] = mix
        recipe["collect"]["sources"].append({"path": "messages.csv", "name": "chat"})

    with pytest.raises(RecipeError, match="names 'chats', and no source has that name") as caught:
        check_recipe(read_recipe(write_recipe(change)))
    assert "did you mean 'chat'? sources are: chat, messages.csv" in caught.value.remedy


@pytest.mark.parametrize("name", ["chat", "messages.csv"])
def test_a_mix_may_name_a_source_by_its_name_or_its_file(write_recipe: WriteRecipe, name: str) -> None:
    def change(recipe: dict[str, Any]) -> None:
        recipe["train"]["mix"] = {"replay": [name]}
        recipe["collect"]["sources"].append({"path": "messages.csv", "name": "chat"})

    recipe = read_recipe(write_recipe(change))
    check_recipe(recipe)
    assert recipe.train.mix is not None and recipe.train.mix.replay == (name,)


def test_prompt_tuning_is_refused_where_the_tuned_model_could_not_be_served(
    write_recipe: WriteRecipe, tmp_path: Path
) -> None:
    def change(recipe: dict[str, Any]) -> None:
        recipe["train"] = {"method": "prompt_tuning", "max_steps": 10}

    recipe = read_recipe(write_recipe(change))
    check_recipe(recipe)
    (tmp_path / "model" / "config.json").write_text('{"model_type": "gemma2"}', encoding="utf-8")
    with pytest.raises(ModelError, match="A gemma2 model with virtual tokens cannot be served") as caught:
        check_recipe(recipe)
    assert "train.method lora" in caught.value.remedy


def test_a_recipe_may_collect_only(write_recipe: WriteRecipe) -> None:
    path = write_recipe(lambda recipe: recipe.pop("generate"))
    recipe = read_recipe(path)
    check_recipe(recipe)
    assert recipe.generate is None and prompts_of(recipe) == []


def test_the_written_recipe_is_the_embedded_one(write_recipe: WriteRecipe) -> None:
    """Else the tests above would test something that nobody runs."""
    mine = read_recipe(write_recipe(lambda recipe: None))
    shipped = read_recipe("embedded")
    assert mine.model_dump(exclude={"model", "collect"}) == shipped.model_dump(exclude={"model", "collect"})
    assert yaml.safe_load(Path(recipe_path("embedded")).read_text(encoding="utf-8"))["name"] == "embedded"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("target_modules", ["q_proj", "q_prj"], "no linear layer named q_prj"),
        ("chat_template", "llama3", "lacks <|start_header_id|>, <|end_header_id|>, <|eot_id|> of the llama3"),
    ],
)
def test_what_the_base_model_lacks_is_found_before_anything_starts(
    write_recipe: WriteRecipe, tmp_path: Path, option: str, value: Any, message: str
) -> None:
    with_seedling(tmp_path)
    with pytest.raises(ModelError) as caught:
        checked(write_recipe, change("train", option, to=value))
    assert message in caught.value.what
    assert caught.value.remedy


def test_layers_of_a_family_without_defaults_must_be_named_before_anything_starts(
    write_recipe: WriteRecipe, tmp_path: Path
) -> None:
    with_seedling(tmp_path)
    path = write_recipe(change("train", "target_modules", to="family"))
    check_recipe(read_recipe(path))
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps({"model_type": "opt"}), encoding="utf-8")
    with pytest.raises(ModelError, match="'opt' has no default target modules") as caught:
        check_recipe(read_recipe(path))
    assert "write all-linear, or names of its linear layers: " in caught.value.remedy


def test_a_base_without_a_chat_template_must_be_given_one_before_anything_starts(
    write_recipe: WriteRecipe, tmp_path: Path
) -> None:
    with_seedling(tmp_path)
    path = write_recipe(lambda recipe: recipe["train"].update(chat_template="chatml"))
    (tmp_path / "model" / "chat_template.jinja").unlink()
    check_recipe(read_recipe(path))
    with pytest.raises(RecipeError, match="no chat template") as caught:
        check_recipe(read_recipe(write_recipe(lambda recipe: None)))
    assert "train.chat_template: chatml" in caught.value.remedy


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rows": "control"}, "keeps no control rows"),
        ({"mix": {"shares": {"collected": 1.0}}}, "asks for collected rows, and this recipe does not train on any"),
        ({"method": "lora", "rank": 600}, "rank 600, and vLLM serves adapters up to rank 512"),
        ({"method": "lora", "backend": "auto", "rank": 300, "init_weights": "pissa"}, "would have rank 600"),
    ],
)
def test_what_a_later_stage_could_not_do_is_told_before_anything_starts(
    write_recipe: WriteRecipe, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(RecipeError, match=says):
        check_recipe(read_recipe(write_recipe(lambda recipe: recipe["train"].update(changes))))


def test_values_that_yaml_does_not_read_as_text_are_one_error_that_says_to_quote_them(
    write_recipe: WriteRecipe, tmp_path: Path
) -> None:
    path = write_recipe(lambda recipe: None)
    text = Path(path).read_text(encoding="utf-8")
    start = text.index("  labels:\n")
    end = text.index("collect:")
    assert start < end
    labels = "  labels: [yes, 'no', 1, 2.0, 3.10, 007, 12:30, ~, 2026-11-28, fine]\n"
    where = "  where:\n    day: [on]\n    2024: [7]\n"
    Path(path).write_text(
        text[:start] + labels + "collect:\n" + where + text[end + len("collect:\n") :], encoding="utf-8"
    )
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    what, row = caught.value.what, text[:start].count("\n") + 1
    assert caught.value.where == f"{path}:{row}"
    assert f"task.labels in line {row}: yes (read as True), 1, 2.0, 3.10 (read as 3.1), 007 (read as 7)" in what
    assert f"collect.where.day in line {row + 3}: on (read as True)" in what
    assert f"collect.where in line {row + 4}: 2024" in what and f"collect.where.2024 in line {row + 4}: 7" in what
    assert caught.value.remedy == (
        'quote it: "yes", "1", "2.0", "3.10", "007", "12:30", "~", "2026-11-28", "on", "2024", "7"'
    )


@pytest.mark.parametrize(
    "keys", [("name",), ("description",), ("publish", "name"), ("task", "input"), ("model", "path")]
)
def test_a_single_value_that_is_not_text_is_to_be_quoted_too(write_recipe: WriteRecipe, keys: tuple[str, ...]) -> None:
    error = refused(write_recipe, change(*keys, to=False))
    assert f"{'.'.join(keys)} in line" in error.what and error.remedy == 'quote it: "false"'
