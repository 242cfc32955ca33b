r"""Data loaders of windows for training."""

from __future__ import annotations

__all__ = ["window_loader"]

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from .windows import Windows


class _Batches(Dataset[tuple[Tensor, Tensor, dict[str, Tensor]]]):
    r"""Dataset of windows indexed by whole batches, so that a batch is one gather."""

    def __init__(self, windows: Windows, precomputed: Mapping[str, Tensor]) -> None:
        self.windows, self.precomputed = windows, precomputed

    def __getitem__(self, which: Sequence[int]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        batch = self.windows[which]
        further = {name: tensor[which] for name, tensor in self.precomputed.items()}
        past = further.pop("past", None)
        if batch.preparation.known is not None:
            further["known"] = batch.known()
        if batch.preparation.calendar is not None:
            further["calendar"] = batch.calendar()
        return batch.past() if past is None else past, batch.future(), further


class _BatchSampler(Sampler[list[int]]):
    r"""Sampler of batches of window indices, in an order determined by seed and epoch, so that runs can resume.

    In distributed training each process takes its part of every batch.
    """

    def __init__(self, size: int, batch_size: int, seed: int | None) -> None:
        self.size, self.batch_size, self.seed, self.epoch = size, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        r"""Set the epoch, which changes the order."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.arange(self.size)
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.size)
        together = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank, ranks = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if together else (0, 1)
        for start in range(0, self.size, self.batch_size):
            batch = order[start : start + self.batch_size].tolist()
            yield batch[rank::ranks] or batch[:1]  # a process without a window would block the others


def window_loader(
    windows: Windows, batch_size: int, seed: int | None, precomputed: Mapping[str, Tensor] | None = None
) -> DataLoader[tuple[Tensor, Tensor, dict[str, Tensor]]]:
    r"""Return a loader of batches of windows, for Lightning.

    Arguments:
        windows: The windows.
        batch_size: The number of windows in a batch, over all processes.
        seed: The seed of the shuffling. The order of an epoch depends only on the seed and the epoch's number. Windows
            are not shuffled if None.
        precomputed: Further tensors with one row for each window, by name, each with shape :math:`(n, *)`. "past"
            replaces the contexts of the windows.

    Returns:
        The loader. Its batches hold the past :math:`(B, L, D)`, the future :math:`(B, H, D)`, and by name the rows of
        `precomputed` of these windows and, where the windows hold known covariates, "known" :math:`(B, L + H, C)`.
    """
    precomputed = precomputed or {}
    if "past" not in precomputed:
        windows = windows.imputed()  # once, not at every epoch
    return DataLoader(
        _Batches(windows, precomputed), batch_size=None, sampler=_BatchSampler(len(windows), batch_size, seed)
    )
