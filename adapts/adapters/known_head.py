r"""A head that corrects each horizon step by the known covariates there."""

from __future__ import annotations

__all__ = ["KnownHead"]

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Standardised covariates, and past values in units of the width, are clipped here.
CLIP, FARTHEST = 5.0, 10.0
#: The initial precisions of the kernels that compare covariates.
PRECISIONS = (0.5, 2.0, 8.0, 32.0)


class KnownHead(nn.Module):
    r"""Corrections of each horizon step, from a channel's token and the known covariates at this step.

    .. math:: o_{h, d} = V_d \, \sigma \bigl( U x_d + W c_h + p_h + R [\bar y_{h, d} - m_{h, d}, m_{h, d}] \bigr),
        \qquad \bar y_{h, d} = \frac{\sum_t k(c_h, c_t) \, y_{t, d}}{\sum_t k(c_h, c_t)}

    where :math:`x` is the token, :math:`c` are the covariates, :math:`p` is a learned embedding of the step and
    :math:`m` the zero-shot median. :math:`\bar y` are means of the context under conditions like those ahead, one for
    each of four Gaussian kernels with a learned precision for each covariate (Nadaraya and Watson, 1964). :math:`W` and
    :math:`V` start at zero: no covariate has an effect before training, and their order does not matter.

    Arguments:
        known: The number of known covariates :math:`C`.
        channels: The number of channels :math:`D`.
        width: The width of a token :math:`w`.
        hidden: The number of hidden units.
        leads: The number of horizon steps, or of knots, :math:`J`.
        outputs: The number of corrections of a step.
        dropout: The probability of dropout in training.
    """

    def __init__(
        self, known: int, channels: int, width: int, hidden: int, leads: int, outputs: int, dropout: float
    ) -> None:
        super().__init__()
        self.dropout = dropout
        precisions = torch.tensor(PRECISIONS, dtype=torch.float32) / known
        self.precision = nn.Parameter(precisions.log().unsqueeze(1).repeat(1, known))
        self.lead = nn.Parameter(0.1 * torch.randn(leads, hidden, dtype=torch.float32))
        self.token, self.similar = nn.Linear(width, hidden), nn.Linear(len(PRECISIONS) + 1, hidden)
        self.covariates, self.output = nn.Linear(known, hidden, bias=False), nn.Linear(hidden, outputs)
        self.channel_weight = nn.Parameter(torch.zeros(channels, hidden, outputs, dtype=torch.float32))
        for tensor in (self.covariates.weight, self.output.weight, self.output.bias):
            nn.init.zeros_(tensor)

    def forward(self, x: Tensor, before: Tensor, ahead: Tensor, past: Tensor, median: Tensor) -> Tensor:
        r"""Return the corrections of each step.

        Arguments:
            x: The tokens, with shape :math:`(B, D, w)`.
            before: The known covariates of the context, standardised, with shape :math:`(B, L, C)`.
            ahead: Those of the leads, with shape :math:`(B, J, C)`.
            past: The context in units of the width, with shape :math:`(B, L, D)`. NaN marks a missing step.
            median: The zero-shot median of the leads, in the same units, with shape :math:`(B, D, J)`.

        Returns:
            The corrections, with shape :math:`(B, D, O, J)`.
        """
        before, ahead = before.clamp(-CLIP, CLIP), ahead.clamp(-CLIP, CLIP)
        median = median.clamp(-FARTHEST, FARTHEST)
        similar = self.similar_values(before, ahead, past) - median.unsqueeze(-1)  # (B, D, J, 4)
        hidden = (
            self.token(x).unsqueeze(2)
            + (self.covariates(ahead) + self.lead[: ahead.shape[1]]).unsqueeze(1)
            + self.similar(torch.cat([similar, median.unsqueeze(-1)], -1))
        )  # (B, D, J, h)
        hidden = functional.dropout(functional.gelu(hidden), self.dropout, self.training)
        output: Tensor = self.output(hidden) + torch.einsum("bdjh,dho->bdjo", hidden, self.channel_weight)
        return output.mT

    def similar_values(self, before: Tensor, ahead: Tensor, past: Tensor) -> Tensor:
        r"""Return the means of the context under conditions like those ahead, (B, D, J, 4); 0 without a value."""
        scale = (0.5 * self.precision).exp().unsqueeze(1)  # (4, 1, C)
        keys = before.unsqueeze(1) * scale  # (B, 4, L, C)
        logits = 2 * (ahead.unsqueeze(1) * scale) @ keys.mT - keys.square().sum(-1).unsqueeze(-2)  # (B, 4, J, L)
        weights, observed = logits.softmax(-1), ~past.isnan()
        values = torch.where(observed, past, 0.0).clamp(-FARTHEST, FARTHEST)
        total = torch.einsum("bkjl,bld->bdjk", weights, values)
        return total / torch.einsum("bkjl,bld->bdjk", weights, observed.to(values)).clamp(min=1e-6)
