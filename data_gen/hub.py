"""What lies on the hub and what of it lies here: sizes beforehand, downloads, and clear errors.

Models go through `huggingface_hub.snapshot_download`, problem sets through `datasets`: the same
calls, and so the same caches, from which jobs load with HF_HUB_OFFLINE=1.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from data_gen.public_sets import Part, import_datasets, load_rows
from prm.errors import ConfigError

# The base error of the HTTP library that this version of the hub's client uses.
_HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]
_ERRORS = (OSError, ValueError, _HTTP_ERROR)


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """Something on the hub, and what is missing of it here."""

    name: str
    missing: int | None
    """Bytes to fetch and to unpack; 0 = it is here; None = the hub does not tell."""
    cache: Path
    fetch: Callable[[], Path]
    """Bring what is missing; gives the folder."""


def wanted_model(name: str, patterns: Sequence[str]) -> Wanted:
    """A model's files that match a pattern.

    Raises:
        ConfigError: the hub is not reached, or has no such model, or no weights in safetensors.
    """
    try:
        files = snapshot_download(name, allow_patterns=list(patterns), dry_run=True)
    except _ERRORS as error:
        raise explained(f"model {name}", name, error) from error
    if not any(file.filename.endswith(".safetensors") for file in files):
        raise ConfigError(
            f"model {name} has no .safetensors files that match {list(patterns)}; "
            "convert it, or name one that has"
        )
    sizes = [file.file_size for file in files if file.will_download]
    known = [size for size in sizes if size is not None]

    def fetch() -> Path:
        try:
            return Path(snapshot_download(name, allow_patterns=list(patterns)))
        except _ERRORS as error:
            raise explained(f"model {name}", name, error) from error

    missing = sum(known) if len(known) == len(sizes) else None
    return Wanted(f"model {name}", missing, Path(constants.HF_HUB_CACHE), fetch)


def wanted_rows(part: Part, config: str | None) -> Wanted:
    """One configuration of a part of a public set.

    Raises:
        ConfigError: the hub is not reached, or has no such set.
    """
    datasets = import_datasets()
    name = " ".join(filter(None, (f"problems {part.hub_id}", config)))
    try:
        # Asked first: it fails at once and says why, where datasets tries for half a minute.
        HfApi().dataset_info(part.hub_id)
        builder = datasets.load_dataset_builder(part.hub_id, config)
    except (*_ERRORS, datasets.exceptions.DatasetsError) as error:
        raise explained(name, f"datasets/{part.hub_id}", error) from error
    sizes = (builder.info.download_size, builder.info.dataset_size)
    missing = None if None in sizes else sum(sizes)

    def fetch() -> Path:
        # All splits of a configuration are prepared together.
        return Path(load_rows(part, config).cache_files[0]["filename"]).parent

    is_here = os.path.isdir(builder.cache_dir)
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    return Wanted(name, 0 if is_here else missing, cache, fetch)


def explained(what: str, page: str, error: BaseException) -> ConfigError:
    """The error of a library, with what to do about it."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    url = f"{constants.ENDPOINT}/{page}"
    if any(isinstance(one, GatedRepoError) for one in causes):
        remedy = f"is gated: accept its terms at {url}, then `hf auth login` or set HF_TOKEN"
    elif any(isinstance(one, RepositoryNotFoundError) for one in causes):
        remedy = f"is unknown at {url}: check the spelling; if it is private, `hf auth login`"
    elif constants.HF_HUB_OFFLINE:
        remedy = "cannot be fetched with HF_HUB_OFFLINE=1: unset it for this command"
    elif any(isinstance(one, HfHubHTTPError) for one in causes):
        remedy = f"cannot be had from {url} now; try again later"
    elif any(isinstance(one, ConnectionError | TimeoutError | _HTTP_ERROR) for one in causes):
        remedy = (
            f"cannot be fetched: {constants.ENDPOINT} is not reached from here. Run this where it "
            "is: a login node; behind a proxy, set HTTPS_PROXY"
        )
    else:
        remedy = "cannot be fetched"
    words = str(causes[-1]).strip().partition("\n")[0]
    return ConfigError(f"{what} {remedy}. {type(causes[-1]).__name__}: {words:.200}")
