r"""Pairs of surrogate series for each channel."""

from __future__ import annotations

__all__ = ["Weave"]

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from .. import checks
from .autoencoder import perceptron
from .base import WIDEST, Normalised, State, fill_missing, register
from .capabilities import Capabilities

#: The kernel size of each convolution, in steps.
KERNEL = 5


@register("weave")
class Weave(Normalised):
    r"""Encodes each channel as two surrogate series that mix in all channels (DualWeaver).

    .. math:: S^a = a X + f(X), \quad S^b = -b X + f(X), \qquad Y = \frac{F(S^a) - F(S^b)}{a + b}

    where :math:`F` is the frozen model, :math:`a` and :math:`b` are positive, one per channel, and start at one, and
    :math:`f` is a network that starts at zero. No decoder is trained: :math:`f` cancels, so that the surrogates recover
    the channels exactly for any parameters. The two forecasts are sampled counter-monotonically. At level :math:`\tau`
    the untrained adapter thus gives :math:`(F_\tau(X) - F_{1 - \tau}(-X)) / 2`, the sign-flip ensemble. It equals the
    frozen model if that is equivariant to sign flips.

    Deterministic; any context length; exactly invertible; decoding mixes no channels. Costs :math:`2 D` passes of the
    frozen model, and one more of the raw channels if `penalty` is used. It is not an ensemble of independent members:
    both surrogates have similar errors where :math:`f` is large relative to the channels. As in the paper, the frozen
    model may have been fine-tuned to the data before.

    References:
        | DualWeaver: Synergistic Feature Weaving Surrogates (Li et al., 2026)
        | https://arxiv.org/abs/2602.22066

    Arguments:
        network: The network :math:`f`: `"mlp"`, on each step alone; `"conv"`, two convolutions over the last 9 steps.
        hidden: The width of its hidden layer; if None, the power of two above :math:`D`, between 32 and 512.
        regularisation: The weight of `penalty`, which keeps the surrogates from collapsing; 0 disables it.

    Example:
        >>> weave = Weave().build(channels=7)
        >>> z, state = weave.encode(torch.randn(32, 96, 7))
        >>> z.shape, weave.decode(z, state).shape
        (torch.Size([1, 32, 96, 14]), torch.Size([1, 32, 96, 7]))
    """

    network: str = "mlp"
    hidden: int | None = None
    regularisation: float = 1.0

    def _check(self) -> None:
        super()._check()
        checks.choice("network of Weave", self.network, ["mlp", "conv"])
        checks.integer("Weave expects hidden", self.hidden, most=WIDEST, none=True)
        kind = "a number from 0 to 1e6"
        checks.number("Weave expects regularisation", self.regularisation, kind, lambda x: 0 <= x <= 1e6)

    @property
    def latents(self) -> int:
        return 2 * self.channels

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, mixes_channels=False, penalised=self.regularisation > 0)

    def latent_levels(self, u: Tensor) -> Tensor:
        return torch.cat([u, 1 - u], -1)

    def _width(self, channels: int) -> int:
        return self.hidden or min(max(2 ** channels.bit_length(), 32), 512)

    def _count_weights(self, channels: int) -> int:
        return 2 * (1 if self.network == "mlp" else KERNEL) * channels * self._width(channels)

    def _build(self, channels: int) -> None:
        hidden = self._width(channels)
        # Log scale: the sum stays positive, and weight decay pulls the factors towards one.
        self.log_a = nn.Parameter(torch.zeros(channels, dtype=torch.float32))
        self.log_b = nn.Parameter(torch.zeros(channels, dtype=torch.float32))
        self.weaver = (
            perceptron([channels, hidden, channels], "silu")
            if self.network == "mlp"
            else _Convolutions(channels, hidden)
        )

    def _scales(self) -> tuple[Tensor, Tensor]:
        return self.log_a.exp(), self.log_b.exp()

    def _encode(self, x: Tensor, state: State) -> Tensor:
        (a, b), mixture = self._scales(), self.weaver(x)
        return torch.cat([a * x + mixture, -b * x + mixture], -1)

    def encode_future(self, y: Tensor, state: State) -> Tensor:
        # Convolutions read past steps. Missing cells get no gradient; the values that fill them do.
        rows = torch.cat([state.past[:, 2 - 2 * KERNEL :], y], 1)
        observed = ~rows.isnan()
        normal = (torch.where(observed, rows, state.location) - state.location) / state.scale
        filled = fill_missing(torch.where(observed, normal, torch.nan), self.covariance)
        z = self._encode(filled, state)[:, -y.shape[1] :]
        return torch.where(y.isnan().any(-1, keepdim=True), torch.nan, z)

    def _decode(self, z: Tensor, state: State) -> Tensor:
        (a, b), (first, second) = self._scales(), z.chunk(2, -1)
        return (first - second) / (a + b)

    def penalty(self, forecast: Tensor, future: Tensor, state: State) -> Tensor:
        r"""Return the paper's own loss in the space of the surrogates, added to the objective.

        .. math:: \frac{1}{D} \sum_d \frac{l^a_d + l^b_d}{2}
            + \max\Bigl(\frac{2 (l^a_d + l^b_d)}{(a_d + b_d)^2}, l_d\Bigr)

        where :math:`l^a`, :math:`l^b` and :math:`l` are the frozen model's mean squared errors on the two surrogates
        and on the raw channels, in the windows' units. The first term alone is minimised by small surrogates. The
        quotient prevents this: it bounds the squared error of the adapter's forecast. The maximum demands no more than
        the frozen model's own accuracy.

        Arguments:
            forecast: The frozen model's median forecasts of the latent channels, with shape :math:`(M, B, H, 2 D)`,
                where :math:`M = 1`: nothing is drawn.
            future: The standardised targets, with shape :math:`(B, H, D)`. NaN marks a missing step.
            state: The state of these windows, which holds the frozen model's median forecasts of the raw channels.

        Returns:
            The penalty, times `regularisation`; a scalar.
        """
        assert state.forecast is not None
        target = self.encode_future(future, state)
        first, second = _mean_squared_error(forecast[0], target).chunk(2)
        zero_shot = _mean_squared_error(state.forecast / state.scale, future / state.scale).detach()
        a, b = self._scales()
        bound = 2 * (first + second) / (a + b).square()
        return self.regularisation * ((first + second) / 2 + torch.maximum(bound, zero_shot)).mean()


def _mean_squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    r"""Return the error of each channel over the observed cells; missing cells get no gradient."""
    observed = ~target.isnan()
    error = prediction - torch.where(observed, target, prediction.detach())
    return error.square().sum((0, 1)) / observed.sum((0, 1)).clamp(min=1)


class _Convolutions(nn.Module):
    r"""Two causal convolutions over time, padded with the first step."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(channels, hidden, KERNEL)
        self.second = nn.Conv1d(hidden, channels, KERNEL)
        nn.init.zeros_(self.second.weight)
        assert self.second.bias is not None
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        r"""Map rows :math:`(B, L, D)` to rows of the same shape."""
        before = (KERNEL - 1, 0)
        hidden = functional.silu(self.first(functional.pad(x.mT, before, mode="replicate")))
        rows: Tensor = self.second(functional.pad(hidden, before, mode="replicate"))
        return rows.mT
