r"""Exclusive access to PyTorch's global random generator, which all threads share."""

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
    r"""Seed the global generator within the context, and restore it afterwards; other threads wait meanwhile.

    Contexts may be nested. Draw from the global generator only within this context, and keep it short. Only training
    by gradient and initial parameters need it; everything else has its own generator.

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
    _lock = threading.RLock()  # the thread that held it does not exist in the child


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_renew)
