"""The champion as tonight sees it: whom the candidate has to beat, and whose adapter the training goes on from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core.artifacts import ArtifactRef
from tasks.core.errors import RecipeError, RegistryError
from tasks.core.merging.trained import ADAPTER, MERGED, trained_in
from tasks.core.models import model_digest
from tasks.evaluate.evaluate import Rival
from tasks.publish.history import learned_from, lineage_of
from tasks.publish.registry import Published, Registry
from tasks.train.train import InitialAdapter

if TYPE_CHECKING:
    from flows.recipe.recipe import Recipe


def rival(registry: Registry, trained: ArtifactRef) -> Rival | None:
    """Whom the candidate has to beat: the champion.

    A candidate that was champion already is compared with the one it replaced, as it was then: its evaluation is
    found, and neither a night without news nor one after a rollback publishes it again.

    Raises:
        RegistryError: its files are gone.
    """
    known = registry.promoted(trained.digest)
    champion = registry.champion()
    if known is not None:
        champion = registry.version(known.previous) if known.previous else None
    if champion is None:
        return None
    folder = Path(champion.path)
    is_whole = not (folder / ADAPTER).is_dir() or not trained_in(folder).is_served_beside_base
    served = folder / (MERGED if is_whole else ADAPTER)
    if not served.is_dir():
        raise RegistryError(
            f"The files of version {champion.version} of {champion.name!r}, which the candidate has to beat, are gone",
            where=str(served),
            remedy="bring the folder back, or take another champion with `retune rollback --to VERSION` (or none)",
        )
    return Rival(champion.name, champion.version, str(served), champion.adapter, is_whole)


def check_champion(registry: Registry, recipe: Recipe) -> None:
    """Find out before anything starts whether a recipe that goes on from its champion fits the one that there is.

    Raises:
        RecipeError: it does not. Tonight might need no champion, having no news; the next night with news would.
    """
    champion = registry.champion() if recipe.train.initial_adapter == "champion" else None
    if champion is not None:
        _fitting(champion, recipe)


def initial_adapter(registry: Registry, recipe: Recipe, validated: ArtifactRef) -> InitialAdapter | None:
    """The adapter that tonight's training goes on from; None: it starts fresh.

    It is the champion's, where the recipe wants that and there is one. A training set from which a champion learned,
    the one now or one before, is not learned a second time: tonight starts from what that one started from, so that a
    night without news, and one after a rollback to whichever version, finds its artifact instead of training on.

    Raises:
        RecipeError: the champion's adapter does not fit the recipe.
        RegistryError: the version that it started from is gone.
    """
    if recipe.train.initial_adapter != "champion":
        return None
    champion = registry.champion()
    known = next((one for one in reversed(registry.champions()) if learned_from(one) == validated.digest), None)
    if known is not None:
        started_from = lineage_of(known).get("initial_adapter")
        champion = registry.version(started_from["version"]) if started_from else None
    return _fitting(champion, recipe) if champion is not None else None


def _fitting(champion: Published, recipe: Recipe) -> InitialAdapter:
    """The adapter of a version, as something to go on from.

    Raises:
        RecipeError: it does not fit the recipe.
    """
    adapter = Path(champion.path) / ADAPTER
    if differing := list(_differences(champion, adapter, recipe)):
        raise RecipeError(
            f"Version {champion.version} of {champion.name!r} does not fit the recipe: "
            + "; ".join(what for what, _ in differing),
            where=str(adapter),
            remedy=f"set {', '.join(key for _, key in differing if key)} as it was trained, or"
            " train.initial_adapter: fresh"
            if any(key for _, key in differing)
            else "set train.initial_adapter: fresh",
        )
    return InitialAdapter(str(adapter), champion.adapter, champion.version)


def _differences(champion: Published, adapter: Path, recipe: Recipe) -> Iterator[tuple[str, str]]:
    """What is another there than in the recipe, and the setting that would make it the same, where there is one.

    Layers that the recipe names by a word, or PEFT by a pattern, are compared by the training, which knows the model.
    """
    try:
        found: dict[str, Any] = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        yield "it has no adapter that could be read", ""
        return
    lineage, train = lineage_of(champion), recipe.train
    if "digest" not in (base := lineage.get("base") or {}):
        yield "its lineage.json is gone or names no base, so that nobody knows whether it is the recipe's", ""
    elif base["digest"] != model_digest(recipe.model):
        yield f"it was trained on another base ({base.get('model', 'unknown')})", ""
    method = lineage.get("method")
    if found.get("peft_type") != train.training_method.peft_type or (method or train.method) != train.method:
        name = method or str(found.get("peft_type")).lower()
        yield f"it was trained by the method {name}, and the recipe says {train.method}", f"train.method: {name}"
        return
    for ours, theirs in train.training_method.peft_settings.items():
        if (value := found.get(theirs)) != (wanted := getattr(train, ours)):
            yield f"its {ours} is {_said(value)}, not {_said(wanted)}", f"train.{ours}: {_said(value)}"
    layers = found.get("target_modules") or ()
    if isinstance(layers, str) or isinstance(train.target_modules, str):
        return
    if _last_parts(layers) != _last_parts(train.target_modules):
        names = ", ".join(sorted(layers))
        yield f"it is on the layers {names}", f"train.target_modules: [{names}]"


def _last_parts(names: Iterable[str]) -> set[str]:
    """A layer may be named by its last parts, so that two names with another last one are never the same layer's."""
    return {name.rpartition(".")[2] for name in names}


def _said(value: Any) -> str:
    """A value as YAML writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
