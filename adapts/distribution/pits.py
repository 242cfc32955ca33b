r"""Where outcomes fell in their laws."""

from __future__ import annotations

__all__ = ["JUMP", "Pits"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: A law that jumps by less at an outcome is taken for one without an atom there: rounding errors reach less far.
JUMP = 0.01


@dataclass(frozen=True)
class Pits:
    r"""Probability integral transforms, each with the jump of the law that it lies in.

    An outcome at an atom stands for all levels from :math:`F(y-)` to :math:`F(y)`, and its transform is drawn evenly
    from them. Where levels are mapped, it has to be drawn anew between the ends of the mapped jump: a transform that
    was drawn before is no longer even there, wherever the map bends within the jump.

    Arguments:
        lower: :math:`F(y-)`, of any shape. NaN marks a missing outcome.
        upper: :math:`F(y)`, with the same shape.
        place: Where between them each transform is drawn, within [0, 1], with the same shape.
    """

    lower: Tensor
    upper: Tensor
    place: Tensor

    @staticmethod
    def of(pits: Tensor | Pits) -> Pits:
        r"""Takes transforms of laws without atoms as they are.

        Arguments:
            pits: The transforms, of any shape. NaN marks a missing outcome.

        Returns:
            The transforms, in jumps of no height; `pits` itself if it is such.
        """
        return pits if isinstance(pits, Pits) else Pits(pits, pits, torch.zeros_like(pits))

    @staticmethod
    def cat(parts: Sequence[Pits]) -> Pits:
        r"""Lays transforms one after the other, along the first axis.

        Arguments:
            parts: The transforms, whose shapes differ in the first axis only.

        Returns:
            All of them.
        """
        return Pits(*(torch.cat([getattr(part, name) for part in parts]) for name in ("lower", "upper", "place")))

    @property
    def values(self) -> Tensor:
        r"""The transforms themselves."""
        return torch.lerp(self.lower, self.upper, self.place)

    @property
    def shape(self) -> torch.Size:
        r"""Their shape."""
        return self.lower.shape

    @property
    def jumps(self) -> Tensor:
        r"""Which of them lie at an atom, with the same shape."""
        return self.upper > self.lower

    def __len__(self) -> int:
        return len(self.lower)

    def __getitem__(self, index: Any) -> Pits:
        r"""The transforms that `index` picks, as it would pick entries of a tensor."""
        return self._each(lambda x: x[index])

    def through(self, function: Callable[[Tensor], Tensor]) -> Pits:
        r"""Sends the ends of the jumps through a map of levels.

        Arguments:
            function: The map, which increases and keeps shapes; NaN stays NaN.

        Returns:
            The transforms under the laws with mapped levels.
        """
        lower = function(self.lower)
        return Pits(lower, function(self.upper) if bool(self.jumps.any()) else lower, self.place)

    def _each(self, function: Callable[[Tensor], Tensor]) -> Pits:
        return Pits(function(self.lower), function(self.upper), function(self.place))

    def reshape(self, *shape: int) -> Pits:
        r"""Lays the same transforms out anew.

        Arguments:
            *shape: The shape, as for a tensor's `reshape`.

        Returns:
            The transforms in this shape.
        """
        return self._each(lambda x: x.reshape(shape))
