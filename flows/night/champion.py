"""The champion in tonight's run: what the candidate must beat, and the adapter that training continues from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from flows.recipe.recipe import Recipe
from tasks.core.artifacts import ArtifactRef
from tasks.core.config import ModelSource
from tasks.core.errors import RecipeError, RegistryError
from tasks.core.home import Home, recipe_of_night
from tasks.core.merging.trained import ADAPTER, MERGED, trained_in
from tasks.core.model_files import CONFIG, check_adapter_files, check_model_files
from tasks.core.models import model_digest, model_family
from tasks.core.progress import say
from tasks.evaluate.evaluate import Rival
from tasks.publish.history import TRAINING_PROFILE, champions_before, learned_from, lineage_of
from tasks.publish.registry import Published, Registry
from tasks.train.adapters import differing_settings
from tasks.train.train import InitialAdapter
from tasks.validate.check_training_set import Publications, choose_publications


def find_rival(registry: Registry, trained: ArtifactRef) -> Rival | None:
    """The version that the candidate must beat: the champion.

    A candidate that was champion already is compared with the version it replaced. So its evaluation is found, and
    neither a night without news nor one after a rollback publishes it again. A candidate that was rejected against a
    champion must still beat it after that champion was taken back.
    """
    known = registry.promoted(trained.digest)
    champion = registry.champion()
    if known is not None:
        champion = registry.version(known.previous) if known.previous else None
    choose = Home.from_environment().command("rollback", "--to", "none", recipe=recipe_of_night())
    stronger, remedy = registry.rejected_against(trained.digest), f"restore the folder, or serve no champion: {choose}"
    if stronger and (champion is None or int(stronger.version) > int(champion.version)):
        say(f"  version {stronger.version} rejected this candidate when it was champion: it must still be beaten")
        champion, remedy = stronger, "restore the folder; new documents or another seed make another candidate"
    if champion is None:
        if known is None and registry.champions():
            say("  no version is champion, the last was taken back: the candidate must beat the base only")
        return None
    folder = Path(champion.path)
    family = model_family(ModelSource(path=str(folder / MERGED)))
    is_whole = not (folder / ADAPTER).is_dir() or not trained_in(folder).is_served_beside(family)
    served = folder / (MERGED if is_whole else ADAPTER)
    if not served.is_dir():
        raise RegistryError(
            f"The files of version {champion.version} of {champion.name!r}, which the candidate must beat, are gone",
            where=str(served),
            remedy=remedy,
        )
    return Rival(champion.name, champion.version, str(served), champion.adapter, is_whole)


def missing_champion(registry: Registry, recipe: str) -> str:
    """A sentence for the report if the champion was taken back and no other version is, else empty."""
    former = registry.champions()
    if not former or registry.champion() is not None:
        return ""
    versions = ", ".join(one.version for one in former)
    restore = Home.from_environment().command("rollback", "--to", former[-1].version, recipe=recipe)
    return f"No version is champion: the last was taken back. Former champions: {versions}. To restore one: {restore}"


def earlier_publications(registry: Registry, recipe: Recipe, validated: ArtifactRef) -> Publications:
    """The published training sets that tonight's is compared with: the last, and one ``drift_window`` back."""
    before = champions_before(registry, validated.digest)
    profiles = ((champion.version, Path(champion.path) / TRAINING_PROFILE) for champion in before)
    return choose_publications(profiles, recipe.validate_.drift_window)


def check_champion(registry: Registry, recipe: Recipe) -> None:
    """Check before anything starts that the champion's files are whole, and fit a recipe that continues from it.

    A night without news needs no champion; the next night with news would. Raises ModelError, RecipeError.
    """
    champion = registry.champion()
    if champion is None:
        return
    adapter, merged = Path(champion.path) / ADAPTER, Path(champion.path) / MERGED
    if adapter.is_dir():
        check_adapter_files(adapter)
    elif (merged / CONFIG).is_file():
        check_model_files(merged)
    if recipe.train.initial_adapter == "champion":
        _fitting(champion, recipe)


def initial_adapter(registry: Registry, recipe: Recipe, validated: ArtifactRef) -> InitialAdapter | None:
    """The adapter that tonight's training continues from; None: it starts fresh.

    It is the champion's, if the recipe asks for it and there is one. A training set that a current or earlier champion
    learned from is not learned twice: tonight starts from the adapter that this champion started from. So a night
    without news, and one after a rollback to any version, finds its artifact instead of training again.
    """
    if recipe.train.initial_adapter != "champion":
        return None
    champion = registry.champion()
    learned = (version for version in reversed(registry.champions()) if learned_from(version) == validated.digest)
    if (known := next(learned, None)) is not None:
        started_from = lineage_of(known).get("initial_adapter")
        champion = registry.version(started_from["version"]) if started_from else None
    if champion is None:
        return None
    adapter = _fitting(champion, recipe)
    say(f"  training continues from version {champion.version} of {champion.name}")
    return adapter


def _fitting(champion: Published, recipe: Recipe) -> InitialAdapter:
    adapter = Path(champion.path) / ADAPTER
    if differences := list(_differences(champion, adapter, recipe)):
        settings = ", ".join(setting for _, setting in differences if setting)
        raise RecipeError(
            f"Version {champion.version} of {champion.name!r} does not fit the recipe: "
            + "; ".join(what for what, _ in differences),
            where=str(adapter),
            remedy=(f"set {settings} as it was trained, or train.initial_adapter: fresh")
            if settings
            else "set train.initial_adapter: fresh",
        )
    return InitialAdapter(str(adapter), champion.adapter, champion.version)


def _differences(champion: Published, adapter: Path, recipe: Recipe) -> Iterator[tuple[str, str]]:
    """What differs from the recipe, and the setting that would make it agree, if there is one."""
    try:
        found = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        yield "it has no adapter that could be read", ""
        return
    lineage, train = lineage_of(champion), recipe.train
    if "digest" not in (base := lineage.get("base") or {}):
        yield "its lineage.json is missing or does not name its base, which may not be the recipe's", ""
    elif base["digest"] != model_digest(recipe.model):
        yield f"it was trained on another base ({base.get('model', 'unknown')})", ""
    differing = list(differing_settings(found, train, lineage.get("method")))
    yield from differing
    layers, wanted = found.get("target_modules") or (), train.target_modules
    is_other_method = any(setting.startswith("train.method") for _, setting in differing)
    if is_other_method or isinstance(layers, str) or isinstance(wanted, str):
        return  # a word or a pattern for layers is compared by the training, which knows the model
    if _last_parts(layers) != _last_parts(wanted):
        names = ", ".join(sorted(layers))
        yield f"it is on the layers {names}", f"train.target_modules: [{names}]"


def _last_parts(names: Iterable[str]) -> set[str]:
    """A layer may be named by its last parts: names with different last parts are different layers."""
    return {name.rpartition(".")[2] for name in names}
