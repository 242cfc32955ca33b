r"""PyTorch's global random generator, which all threads share: whoever draws from it has it alone."""

from __future__ import annotations

__all__ = ["seeded"]

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.RLock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    r"""Seeds the global generator while it is open, and restores it after; other threads wait until then.

    It may be opened inside itself. Draw from the global generator here alone, and keep it open no longer than that:
    training by gradient and the first values of parameters need it, everything else has a generator of its own.

    Arguments:
        seed: The seed.

    Yields:
        Nothing.
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with _lock, torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def _renew() -> None:
    global _lock
    _lock = threading.RLock()  # the thread that held it is not in the child


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_renew)
