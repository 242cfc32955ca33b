r"""Checkpoints from the Hugging Face hub."""

from __future__ import annotations

__all__ = ["from_hub"]

from collections.abc import Callable
from pathlib import Path

from .._logging import quiet
from ..errors import shown
from .base import FoundationModel
from .registry import foundation_models

#: The files of a checkpoint that are downloaded.
FILES = ["config.json", "*.safetensors*"]


def from_hub(
    repository: str, load: Callable[..., FoundationModel], *, name: str | None = None, revision: str | None = None
) -> FoundationModel:
    r"""Load a checkpoint from the Hugging Face hub, or from its local cache.

    Arguments:
        repository: The repository, such as "amazon/chronos-bolt-tiny". Its commit is the model's version.
        load: The function that loads the downloaded directory.
        name: The model's name; the repository if None.
        revision: The commit, branch or tag; the main branch if None.

    Returns:
        The frozen model, on the CPU.

    Raises:
        ValueError: If there is no such repository or revision, or the hub cannot be reached and its cache holds none.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        with quiet():
            path = Path(snapshot_download(repository, revision=revision, allow_patterns=FILES))
    except GatedRepoError as error:
        raise ValueError(f"cannot download '{repository}': accept its licence on the Hugging Face hub first") from error
    except Exception as error:  # httpx, OSError, offline mode: the hub's client raises many types
        cause = "could not be reached, and its cache holds no copy"
        if isinstance(error, RepositoryNotFoundError):
            cause = "has no such repository"
        elif isinstance(error, RevisionNotFoundError):
            cause = f"has no revision {shown(revision)} of it"
        elif constants.HF_HUB_OFFLINE:
            cause = "is disabled (HF_HUB_OFFLINE is set), and its cache holds no copy"
        raise ValueError(
            f"cannot load the foundation model '{repository}': it is no local directory, and the Hugging Face hub "
            f"{cause}. Pass the path of a directory with config.json and model.safetensors, or a bundled model: "
            f"{', '.join(foundation_models())}"
        ) from error
    return load(path, name=repository if name is None else name, version=path.name)
