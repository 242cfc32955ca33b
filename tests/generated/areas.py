r"""The areas: what each is prepared with, and the generator of its cases."""

from __future__ import annotations

import resource
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from . import files, fits, options, pieces, saved, series
from .judge import Case


@dataclass(frozen=True)
class Area:
    r"""One kind of inputs.

    Arguments:
        case: Makes a case of random numbers and what was prepared.
        prepare: Makes in a folder what all cases of the area need.
    """

    case: Callable[[Random, Any], Case]
    prepare: Callable[[Path], Any] = lambda folder: folder


AREAS = {
    "reading": Area(series.reading),
    "files": Area(files.files),
    "paths": Area(files.paths),
    "bombs": Area(files.bombs),
    "fits": Area(fits.fits, fits.tiny),
    "fit-any": Area(fits.odd_series, fits.tiny),
    "options": Area(options.options, options.prepare),
    "recipes": Area(pieces.recipes, pieces.prepare),
    "models": Area(pieces.models, pieces.model_folders),
    "checkpoints": Area(pieces.checkpoints, pieces.begun),
    "folders": Area(pieces.folders, pieces.prepare),
    "config-old": Area(saved.configs_old, saved.prepare),
    "config-new": Area(saved.configs_new, saved.prepare),
    "config-bytes": Area(saved.config_bytes, saved.prepare),
    "tensors-old": Area(saved.tensors_old, saved.prepare),
    "tensors-new": Area(saved.tensors_new, saved.prepare),
    "grouped": Area(saved.grouped, saved.prepare),
}


@contextmanager
def prepared(name: str, memory: int | None = None) -> Iterator[Callable[[int], Case | None]]:
    r"""Prepares an area.

    Arguments:
        name: The area.
        memory: The bytes of addresses that may be used from here on; any number if None.

    Yields:
        What makes the case of a seed, None where it cannot be built.
    """
    area = AREAS[name]
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="adapts-generated-") as folder:
        ready = area.prepare(Path(folder))
        if memory is not None:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + memory, resource.RLIM_INFINITY))

        def make(seed: int) -> Case | None:
            torch.manual_seed(0)
            np.random.seed(0)
            try:
                return area.case(Random(f"{name} {seed}"), ready)
            except Exception:  # another library refuses to make such an input
                return None

        yield make
