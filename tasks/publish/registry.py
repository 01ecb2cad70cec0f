"""MLflow's model registry: versions, the aliases ``candidate`` and ``champion``, and rollback.

Every step is idempotent: the key of an artifact finds its version, and the alias ``champion`` moves once per version,
as the very last act. The next run finishes a killed publish; a rolled-back one is not repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.errors import RegistryError
from tasks.core.home import Home, recipe_of_night
from tasks.core.merging.trained import ADAPTER, MERGED

CANDIDATE, CHAMPION = "candidate", "champion"
KEY_TAG, TRAINED_TAG, ADAPTER_TAG = "retune.key", "retune.trained", "retune.adapter"
PREVIOUS_TAG, PROMOTED_TAG, MLFLOW_RUN_TAG = "retune.previous_champion", "retune.promoted", "retune.run"
METHOD_TAG, REJECTED_TAG = "retune.method", "retune.rejected_against"
NOBODY = "none"
NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""MLflow's error codes for a missing registered model, and for a missing alias."""


@dataclass(frozen=True)
class Published:
    """A version of a registered model.

    ``path`` is the artifact's folder, ``trained`` the digest of the train artifact, ``adapter`` that of the adapter or
    of a fully trained model, ``previous`` the version that was champion before it, or None.
    """

    name: str
    version: str
    path: str
    trained: str
    adapter: str
    previous: str | None


class Registry:
    """The versions of one registered model."""

    def __init__(self, home: Home, name: str) -> None:
        from mlflow import MlflowClient

        (home.root / "mlflow").mkdir(parents=True, exist_ok=True)
        self.name, self._home = name, home
        self._client = MlflowClient(tracking_uri=home.tracking_uri, registry_uri=home.tracking_uri)

    def champion(self) -> Published | None:
        """The version that users are served, or None."""
        from mlflow.exceptions import MlflowException

        try:
            return self._published(self._client.get_model_version_by_alias(self.name, CHAMPION))
        except MlflowException as error:
            if error.error_code not in NOT_THERE:
                raise
            return None

    def version(self, number: str) -> Published:
        """A version by its number; raises RegistryError if it does not exist."""
        return self._published(self._tagged(number))

    def promoted(self, trained: str) -> Published | None:
        """The latest version with this train artifact that is or was champion, or None."""
        return next((one for one in reversed(self.champions()) if one.trained == trained), None)

    def rejected_against(self, trained: str) -> Published | None:
        """The latest champion that this train artifact was compared with when the gate rejected it, or None."""
        versions = self._search()
        rivals = {one.tags.get(REJECTED_TAG) for one in versions if one.tags.get(TRAINED_TAG) == trained}
        return next((self._published(one) for one in reversed(versions) if str(one.version) in rivals), None)

    def champions(self) -> list[Published]:
        """All versions that are or were champion, oldest first.

        The champion counts even without its tag: a run can be killed between alias and tag.
        """
        champion = self.champion()
        current = champion.version if champion else None
        found = self._search()
        return [self._published(one) for one in found if PROMOTED_TAG in one.tags or str(one.version) == current]

    def versions(self) -> list[Published]:
        """All versions, oldest first."""
        return [self._published(version) for version in self._search()]

    def register(
        self,
        path: Path,
        *,
        key: str,
        trained: str,
        adapter: str,
        run: str,
        method: str = "",
        rejected_against: str = "",
    ) -> Published:
        """The version of an artifact, created if needed, with the alias ``candidate``.

        ``rejected_against``: the champion's version in the comparison that rejected it, empty if there was none.
        """
        from mlflow.exceptions import MlflowException

        for version in self._search():
            if version.tags.get(KEY_TAG) == key:
                self._client.set_registered_model_alias(self.name, CANDIDATE, version.version)
                return self._published(version)
        try:
            self._client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        tags = {KEY_TAG: key, TRAINED_TAG: trained, ADAPTER_TAG: adapter, MLFLOW_RUN_TAG: run, METHOD_TAG: method}
        tags |= {REJECTED_TAG: rejected_against} if rejected_against else {}
        version = self._client.create_model_version(self.name, source=str(path), run_id=run or None, tags=tags)
        self._client.set_registered_model_alias(self.name, CANDIDATE, version.version)
        return self._published(version)

    def promote(self, published: Published) -> bool:
        """Move ``champion`` to a version, once per version; True if this call moved it."""
        tags = self._tagged(published.version).tags
        if PROMOTED_TAG in tags:
            return False
        if PREVIOUS_TAG not in tags:
            champion = self.champion()
            previous = champion.version if champion else NOBODY
            self._client.set_model_version_tag(self.name, published.version, PREVIOUS_TAG, previous)
        self._client.set_registered_model_alias(self.name, CHAMPION, published.version)
        self._client.set_model_version_tag(self.name, published.version, PROMOTED_TAG, "true")
        return True

    def roll_back(self, to: str | None = None) -> tuple[Published | None, Published | None]:
        """Move ``champion`` back to the version before, to any former champion, or remove it (``none``).

        Returns the champion before and after; nothing moves if they are the same. Raises RegistryError: no version was
        ever champion, none was before this one, the named one was not, or its files are gone.
        """
        current, champions = self.champion(), [one.version for one in self.champions()]
        if not champions:
            remedy = f"publish one: {self._home.command('run', recipe=recipe_of_night())}"
            raise RegistryError(f"{self.name!r} has no champion, and never had one", remedy=remedy)
        if to == NOBODY:
            if current is not None:
                self._client.delete_registered_model_alias(self.name, CHAMPION)
            return current, None
        target = self.version(to or self._previous(current, champions))
        if target.version not in champions:
            raise RegistryError(
                f"Version {target.version} of {self.name!r} was never champion: it did not pass the gate",
                remedy=f"versions that were: {', '.join(champions)}",
            )
        if not any((Path(target.path) / part).is_dir() for part in (ADAPTER, MERGED)):
            others = ", ".join(one for one in champions if one != target.version)
            raise RegistryError(
                f"The files of version {target.version} of {self.name!r} are gone",
                where=target.path,
                remedy=f"restore the folder, or name another former champion with --to: {others or 'none'}",
            )
        self._client.set_registered_model_alias(self.name, CHAMPION, target.version)
        return current, target

    def _previous(self, current: Published | None, champions: Sequence[str]) -> str:
        """The version that a rollback without a target restores; RegistryError if there is none."""
        if current is not None and current.previous is not None:
            return current.previous
        others = [one for one in champions if current is None or one != current.version]
        back = self._home.command("rollback", "--to", others[-1] if others else NOBODY, recipe=recipe_of_night())
        restore = f"to restore a former champion ({', '.join(others)}), name it: {back}"
        if current is None:
            raise RegistryError(f"{self.name!r} has no champion: it was taken back", remedy=restore)
        is_first = current.version == champions[0]
        what = "is the first champion: no earlier one exists" if is_first else "replaced no other"
        none = f"to serve no champion: {self._home.command('rollback', '--to', NOBODY, recipe=recipe_of_night())}"
        remedy = f"{restore}; {none}" if others else none
        raise RegistryError(f"Version {current.version} of {self.name!r} {what}", remedy=remedy)

    def _search(self) -> list[Any]:
        found = self._client.search_model_versions(f"name = '{self.name}'")
        return sorted(found, key=lambda version: int(version.version))

    def _tagged(self, number: str) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return self._client.get_model_version(self.name, number)
        except MlflowException as error:
            known = ", ".join(published.version for published in self.versions()) or "none"
            raise RegistryError(
                f"{self.name!r} has no version {number}", remedy=f"versions that exist: {known}"
            ) from error

    @staticmethod
    def _published(version: Any) -> Published:
        trained, adapter = (version.tags.get(tag, "") for tag in (TRAINED_TAG, ADAPTER_TAG))
        previous = version.tags.get(PREVIOUS_TAG, NOBODY)
        previous = None if previous == NOBODY else previous
        return Published(version.name, str(version.version), version.source, trained, adapter, previous)
