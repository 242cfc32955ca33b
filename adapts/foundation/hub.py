r"""Checkpoints from the Hugging Face hub."""

from __future__ import annotations

__all__ = ["from_hub"]

from collections.abc import Callable
from pathlib import Path

from .._logging import quiet
from .base import FoundationModel
from .registry import foundation_models


def from_hub(repository: str, load: Callable[..., FoundationModel]) -> FoundationModel:
    r"""Load a checkpoint from the Hugging Face hub, or from its local cache.

    Arguments:
        repository: The repository, such as "amazon/chronos-bolt-tiny". Its commit is the model's version.
        load: The function that loads the downloaded directory.

    Returns:
        The frozen model, on the CPU.

    Raises:
        ValueError: If there is no such repository, or the hub cannot be reached and the cache holds no copy.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        with quiet():
            path = Path(snapshot_download(repository, allow_patterns=["config.json", "*.safetensors*"]))
    except GatedRepoError as error:
        raise ValueError(f"cannot download '{repository}': accept its licence on the Hugging Face hub first") from error
    except Exception as error:  # httpx, OSError, offline mode: the hub's client raises many types
        cause = "could not be reached, and its cache holds no copy"
        if isinstance(error, RepositoryNotFoundError):
            cause = "has no such repository"
        elif constants.HF_HUB_OFFLINE:
            cause = "is disabled (HF_HUB_OFFLINE is set), and its cache holds no copy"
        raise ValueError(
            f"cannot load the foundation model '{repository}': it is no local directory, and the Hugging Face hub "
            f"{cause}. Pass the path of a directory with config.json and model.safetensors, or a bundled model: "
            f"{', '.join(foundation_models())}"
        ) from error
    return load(path, name=repository, version=path.name)
