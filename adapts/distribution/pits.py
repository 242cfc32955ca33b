r"""Probability integral transforms of observed values."""

from __future__ import annotations

__all__ = ["JUMP", "Pits"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: Smaller jumps of the distribution function are no atoms: the threshold lies above rounding errors.
JUMP = 0.01


@dataclass(frozen=True)
class Pits:
    r"""Probability integral transforms (PITs), each with the jump of the distribution function that holds it.

    An observation :math:`y` at an atom represents all levels from :math:`F(y-)` to :math:`F(y)`, and its PIT is drawn
    uniformly from them. After a map of levels, it must be redrawn between the mapped ends: where the map bends within
    the jump, a mapped PIT is no longer uniform.

    Arguments:
        lower: The value :math:`F(y-)`, of any shape. NaN marks a missing observation.
        upper: The value :math:`F(y)`, with the same shape.
        place: The relative position of each PIT between both, within [0, 1], with the same shape.
    """

    lower: Tensor
    upper: Tensor
    place: Tensor

    @staticmethod
    def of(pits: Tensor | Pits) -> Pits:
        r"""Wrap PITs of distributions without atoms.

        Arguments:
            pits: The PITs, of any shape. NaN marks a missing observation.

        Returns:
            The PITs, with jumps of height zero; an instance is returned as it is.
        """
        return pits if isinstance(pits, Pits) else Pits(pits, pits, torch.zeros_like(pits))

    @staticmethod
    def cat(parts: Sequence[Pits]) -> Pits:
        r"""Concatenate PITs along the first axis.

        Arguments:
            parts: The PITs, whose shapes differ in the first axis only.

        Returns:
            The concatenated PITs.
        """
        return Pits(*(torch.cat([getattr(part, name) for part in parts]) for name in ("lower", "upper", "place")))

    @property
    def values(self) -> Tensor:
        r"""Return the PITs as a tensor."""
        return torch.lerp(self.lower, self.upper, self.place)

    @property
    def shape(self) -> torch.Size:
        r"""Return the shape."""
        return self.lower.shape

    @property
    def jumps(self) -> Tensor:
        r"""Return which PITs lie at an atom, with the same shape."""
        return self.upper > self.lower

    def __len__(self) -> int:
        return len(self.lower)

    def __getitem__(self, index: Any) -> Pits:
        r"""Return the PITs that `index` selects, with tensor semantics."""
        return self._each(lambda x: x[index])

    def through(self, function: Callable[[Tensor], Tensor]) -> Pits:
        r"""Apply a map of levels to the ends of the jumps.

        Arguments:
            function: The map, increasing and shape-preserving; NaN stays NaN.

        Returns:
            The PITs under the distributions with mapped levels.
        """
        lower = function(self.lower)
        return Pits(lower, function(self.upper) if bool(self.jumps.any()) else lower, self.place)

    def _each(self, function: Callable[[Tensor], Tensor]) -> Pits:
        return Pits(function(self.lower), function(self.upper), function(self.place))

    def reshape(self, *shape: int) -> Pits:
        r"""Return the same PITs in another shape.

        Arguments:
            *shape: The shape, as for a tensor's `reshape`.

        Returns:
            The PITs in this shape.
        """
        return self._each(lambda x: x.reshape(shape))
