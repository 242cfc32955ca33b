r"""Attention across channels that corrects the frozen model's quantiles."""

from __future__ import annotations

__all__ = ["CrossChannelAttention"]

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from .. import checks
from .base import DEEPEST, WIDEST, AdapterModule, State, register
from .capabilities import Capabilities, Optimisation
from .known_head import KnownHead

#: The number of horizon steps that the network sees and corrects; more are interpolated linearly between as many knots.
KNOTS = 24
#: The number of horizon steps at which it reads known covariates; with more, at as many knots.
LEADS = 96
#: Up to so many channels each channel attends to all others; beyond, by inducing points.
MOST_PAIRED = 256
#: Standardised inputs, and logarithms of the width, are clipped here.
CLIP, MOST_STRETCH = 5.0, 2.0


@register("attention")
class CrossChannelAttention(AdapterModule):
    r"""Shifts and stretches the frozen model's quantiles by a transformer over channels.

    .. math:: \hat q_{h, d}(\tau) = m_{h, d} + e^{s_{h, d}} (q_{h, d}(\tau) - m_{h, d}) + a_{h, d} w_d

    where :math:`q` are the zero-shot quantiles, :math:`m` their median and :math:`w_d` the mean width of their outer
    interval over the horizon. A transformer with one token per channel computes shifts :math:`a` and log-stretches
    :math:`s`. A token holds the last steps of the channel and its lowest, middle and highest zero-shot quantile, as
    differences from the last value in units of the width; the last value, the mean of the context and the logarithm of
    the width; and a learned embedding of the channel. It also holds the time of day and of the week, where this cycle
    is longer than the context, so that the frozen model cannot see it, and the series repeats it four times. Functions
    of more than 24 horizon steps enter and leave the network at 24 knots, with linear interpolation between them. The
    output layer, shared and one per channel, starts at zero: the untrained family is the frozen model.

    Deterministic; marginals stay monotone in the level, and are equivariant to the scale and location of a channel as
    the train rows standardise it. The latent channels are the observed ones, so that one pass of the frozen model
    serves the adapter and the zero-shot forecast. Cost is quadratic in the number of channels up to 256, and linear
    beyond. Past covariates are further channels, and so further tokens. Known covariates, static columns and the
    calendar add corrections of each horizon step (`adapts.adapters.known_head.KnownHead`), which are zero before
    training; without any, the family has no such parameters. Up to 96 steps are corrected one by one. Steps without an
    observation enter as zeros; a channel without any observation is not attended to, and keeps its zero-shot forecast.

    References:
        | iTransformer: Inverted Transformers Are Effective for Time Series Forecasting (Liu et al., 2024)
        | https://arxiv.org/abs/2310.06625
        | CoRA (2026), zero-initialised corrections across channels, https://arxiv.org/abs/2603.21828
        | Set Transformer (Lee et al., 2019), inducing points, https://arxiv.org/abs/1810.00825

    Arguments:
        steps: The number of last steps that a token holds.
        width: The width of a token.
        depth: The number of transformer layers.
        heads: The number of attention heads, a divisor of `width`.
        dropout: The probability of dropout in training.
        embedding: The size of the embedding of a channel; 0 for none.
        inducing: The number of inducing points for more than 256 channels.
        attends: Whether tokens attend to each other; otherwise each channel is corrected by itself.
        stretches: Whether quantiles are stretched as well as shifted.

    Example:
        >>> attention = CrossChannelAttention().build(channels=7)
        >>> z, state = attention.encode(torch.randn(32, 96, 7))
        >>> z.shape
        torch.Size([1, 32, 96, 7])
    """

    objective = "quantile"

    steps: int = 48
    width: int = 64
    depth: int = 2
    heads: int = 4
    dropout: float = 0.1
    embedding: int = 16
    inducing: int = 32
    attends: bool = True
    stretches: bool = True

    centre: Tensor
    spread: Tensor

    def _check(self) -> None:
        for name in ("steps", "width", "heads", "inducing"):
            checks.integer(f"CrossChannelAttention expects {name}", getattr(self, name), most=WIDEST)
        checks.integer("CrossChannelAttention expects depth", self.depth, most=DEEPEST)
        checks.integer("CrossChannelAttention expects embedding", self.embedding, least=0, most=WIDEST)
        checks.number("CrossChannelAttention expects dropout", self.dropout, "a number in [0, 1)", lambda p: 0 <= p < 1)
        checks.flag("CrossChannelAttention expects attends", self.attends)
        checks.flag("CrossChannelAttention expects stretches", self.stretches)
        if self.width % self.heads:
            raise ValueError(
                f"CrossChannelAttention expects heads to divide width={self.width}, got heads={self.heads}: "
                f"pass heads={math.gcd(self.width, self.heads)}"
            )

    @property
    def capabilities(self) -> Capabilities:
        return replace(
            super().capabilities,
            observed_latents=True,
            fixed_latents=True,
            mixes_channels=False,
            needs_quantiles=True,
            needs_known=True,
            needs_calendar=True,
        )

    @property
    def optimisation(self) -> Optimisation:
        return Optimisation(
            learning_rate=1.5e-3,
            weight_decay=0.02,
            one_cycle=True,
            epochs=30,
            patience=8,
            batch_size=32,
            averaging=0.98,
            refits=True,
        )

    # ------------------------------------------------------------------ construction

    @property
    def _inputs(self) -> int:
        return self.steps + 3 * KNOTS + 3

    @property
    def _outputs(self) -> int:
        return KNOTS * (2 if self.stretches else 1)

    @property
    def _hidden(self) -> int:
        r"""The number of hidden units of the head that reads known covariates."""
        return max(1, self.width // 2)

    def _count_weights(self, channels: int) -> int:
        layer = 8 * self.width**2 * (1 if channels <= MOST_PAIRED else 2)
        known = self._hidden * (self.known + self.width + LEADS + 2 * (channels + 1)) if self.known else 0
        return (
            known
            + self.depth * layer
            + (self.width + 1) * (self._inputs + self.calendar + self._outputs)
            + (channels * (self.embedding + (self.width + 1) * self._outputs))
        )

    def _build(self, channels: int) -> None:
        self.register_buffer("centre", torch.zeros(self._inputs, dtype=torch.float32))
        self.register_buffer("spread", torch.ones(self._inputs, dtype=torch.float32))
        self.identity = nn.Parameter(0.1 * torch.randn(channels, self.embedding, dtype=torch.float32))
        self.input = nn.Linear(self._inputs + self.embedding + self.calendar, self.width)
        points = self.inducing if channels > MOST_PAIRED else 0
        self.layers = nn.ModuleList(
            [
                _Layer(self.width, self.heads, self.dropout, attends=self.attends, points=points)
                for _ in range(self.depth)
            ]
        )
        self.norm = nn.LayerNorm(self.width)
        self.output = nn.Linear(self.width, self._outputs)
        self.channel_weight = nn.Parameter(torch.zeros(channels, self.width, self._outputs, dtype=torch.float32))
        self.channel_bias = nn.Parameter(torch.zeros(channels, self._outputs, dtype=torch.float32))
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        self.known_head = None
        if self.known:
            outputs = self._outputs // KNOTS
            sizes = self.known, channels, self.width, self._hidden, LEADS, outputs
            self.known_head = KnownHead(*sizes, dropout=self.dropout)

    @torch.no_grad()
    def before_training(self, past: Tensor, quantiles: Tensor) -> None:
        inputs, observed, _ = self._tokens(past, quantiles)
        inputs = inputs[observed]
        if len(inputs) > 1:
            self.centre.copy_(inputs.mean(0))
            self.spread.copy_(inputs.std(0).clamp(min=1e-3))

    # ------------------------------------------------------------------ decoding

    def _decode(self, z: Tensor, state: State) -> Tensor:
        assert state.quantiles is not None
        shift, stretch = self._corrections(state, state.quantiles)  # (B, H, D)
        median = state.quantiles[..., state.quantiles.shape[-1] // 2]
        return median + (z - median) * stretch + shift

    def _corrections(self, state: State, quantiles: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return the shifts, in units of the targets, and the factors of the width, (B, H, D) each."""
        x, observed, width = self._embedded(state, quantiles)
        for layer in self.layers:
            x = layer(x, observed)
        x = self.norm(x)
        output = self.output(x) + self.channel_bias + torch.einsum("bdw,dwo->bdo", x, self.channel_weight)
        output = torch.where(observed.unsqueeze(-1), output, 0.0).unflatten(-1, (-1, KNOTS))  # (B, D, 1 or 2, J)
        basis = _knots(quantiles.shape[1]).to(output)  # (H, J)
        corrections = [(knots @ basis.mT).mT for knots in output.unbind(2)]  # (B, H, D) each
        if self.known_head is not None:
            assert state.known is not None
            by_known = self._by_known(self.known_head, x, state.past, quantiles, state.known)
            by_known = torch.where(observed[:, :, None, None], by_known, 0.0)
            corrections = [a + b.mT for a, b in zip(corrections, by_known.unbind(2), strict=True)]
        shift = corrections[0] * width.unsqueeze(1)
        if not self.stretches:
            return shift, torch.ones_like(shift)
        return shift, corrections[1].clamp(-MOST_STRETCH, MOST_STRETCH).exp()

    def _by_known(self, head: KnownHead, x: Tensor, past: Tensor, quantiles: Tensor, known: Tensor) -> Tensor:
        r"""Return what the known covariates (B, L + H, C) add to the corrections, (B, D, 1 or 2, H)."""
        last, unit, _ = _units(past, quantiles)
        length, horizon = past.shape[1], quantiles.shape[1]
        basis = _knots(horizon, min(horizon, LEADS)).to(quantiles)  # (H, J)
        averages = basis / basis.sum(0)
        median = (quantiles[..., quantiles.shape[-1] // 2] - last.unsqueeze(1)) / unit.unsqueeze(1)  # (B, H, D)
        relative = (past - last.unsqueeze(1)) / unit.unsqueeze(1)
        before, ahead = known[:, :length], averages.mT @ known[:, length:]  # (B, L, C), (B, J, C)
        output: Tensor = head(x, before, ahead, relative, median.mT @ averages) @ basis.mT
        return output

    def _embedded(self, state: State, quantiles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r"""Return the tokens (B, D, w) of the first layer, and observations and widths as `_tokens`."""
        inputs, observed, width = self._tokens(state.past, quantiles)
        x = ((inputs - self.centre) / self.spread).clamp(-CLIP, CLIP)
        parts = [x, self.identity.expand(len(x), -1, -1)]
        if state.calendar is not None:
            parts.append(state.calendar.unsqueeze(1).expand(-1, x.shape[1], -1))
        return self.input(torch.cat(parts, -1)), observed, width

    @torch.no_grad()
    def source_weights(self, state: State) -> Tensor:
        r"""Return the attention rollout, averaged over heads and windows (Abnar and Zuidema, 2020).

        The weights of the layers are multiplied, each averaged with the identity for its residual connection. All
        horizon steps share one token per channel, and so have the same weights. Without attention each channel has all
        weight on itself.

        References:
            | Quantifying Attention Flow in Transformers (Abnar and Zuidema, 2020), https://arxiv.org/abs/2005.00928

        Arguments:
            state: As for `AdapterModule.source_weights`.
        """
        assert state.quantiles is not None
        x, observed, _ = self._embedded(state, state.quantiles)
        identity = torch.eye(self.channels, dtype=x.dtype, device=x.device)
        rollout = identity.expand(len(x), -1, -1)
        for layer in self.layers:
            assert isinstance(layer, _Layer)
            if layer.attends:
                rollout = (layer.weights(x, observed) + identity) / 2 @ rollout
            x = layer(x, observed)
        return rollout.mean(0, keepdim=True)  # (1, D, D)

    def _tokens(self, past: Tensor, quantiles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r"""Return the inputs (B, D, F), whether a channel has any observation (B, D), and the widths (B, D)."""
        known = ~past.isnan()
        mean = torch.where(known, past, 0.0).sum(1) / known.sum(1).clamp(min=1)
        last, unit, flat = _units(past, quantiles)
        recent = torch.where(known, (past - last.unsqueeze(1)) / unit.unsqueeze(1), 0.0)[:, -self.steps :].mT
        recent = functional.pad(recent, (self.steps - recent.shape[-1], 0))  # (B, D, P)
        levels = [0, quantiles.shape[-1] // 2, quantiles.shape[-1] - 1]
        ahead = (quantiles[..., levels] - last[:, None, :, None]) / unit[:, None, :, None]  # (B, H, D, 3)
        knots = _knots(quantiles.shape[1]).to(ahead)
        at_knots = ahead.permute(0, 2, 3, 1) @ (knots / knots.sum(0).clamp(min=1))  # (B, D, 3, J)
        inputs = [recent, at_knots.flatten(2), torch.stack([last, mean, unit.log()], -1)]
        return torch.cat(inputs, -1), known.any(1) & ~flat, torch.where(flat, 0.0, unit)


class _Layer(nn.Module):
    r"""Pre-norm transformer layer over channels (Xiong et al., 2020), by inducing points if there are any."""

    def __init__(self, width: int, heads: int, dropout: float, *, attends: bool, points: int) -> None:
        super().__init__()
        self.attends, self.dropout = attends, dropout
        if attends:
            self.norm = nn.LayerNorm(width)
            self.attention = _Attention(width, heads)
            self.points = nn.Parameter(0.1 * torch.randn(points, width, dtype=torch.float32)) if points else None
            self.summary = _Attention(width, heads) if points else None
        self.inner_norm = nn.LayerNorm(width)
        self.inner = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, observed: Tensor) -> Tensor:
        r"""Return the tokens (B, D, w) after the layer; channels without an observation are not attended to."""
        if self.attends:
            keys: Tensor = self.norm(x)
            if self.points is None or self.summary is None:
                attended = self.attention(keys, keys, observed)
            else:
                summary = self.summary(self.points.expand(len(x), -1, -1), keys, observed)  # (B, I, w)
                attended = self.attention(keys, summary, None)
            x = x + functional.dropout(attended, self.dropout, self.training)
        change: Tensor = functional.dropout(self.inner(self.inner_norm(x)), self.dropout, self.training)
        return x + change

    def weights(self, x: Tensor, observed: Tensor) -> Tensor:
        r"""Return the attention weights between channels (B, D, D), through the inducing points if there are any."""
        keys: Tensor = self.norm(x)
        if self.points is None or self.summary is None:
            return self.attention.weights(keys, keys, observed)
        points = self.points.expand(len(x), -1, -1)
        summary = self.summary(points, keys, observed)  # (B, I, w)
        return self.attention.weights(keys, summary, None) @ self.summary.weights(points, keys, observed)


class _Attention(nn.Module):
    r"""Multi-head attention of queries (B, N, w) to keys (B, D, w)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.output = nn.Linear(width, width), nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)

    def forward(self, queries: Tensor, keys: Tensor, observed: Tensor | None) -> Tensor:
        r"""Return the attended values, (B, N, w); where no key is observed, all are attended to alike."""
        query, key, value, mask = self._projected(queries, keys, observed)
        attended: Tensor = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        output: Tensor = self.output(attended.transpose(1, 2).flatten(-2))
        return output

    def weights(self, queries: Tensor, keys: Tensor, observed: Tensor | None) -> Tensor:
        r"""Return the attention weights of `forward`, averaged over heads, (B, N, D)."""
        query, key, _, mask = self._projected(queries, keys, observed)
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        weights: Tensor = (scores if mask is None else scores + mask).softmax(-1).mean(1)
        return weights

    def _projected(
        self, queries: Tensor, keys: Tensor, observed: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        r"""Return queries, keys and values by head, and what is added to the scores of keys."""
        query = self.query(queries).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, w / heads)
        key, value = self.key_value(keys).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mask = None if observed is None else torch.where(observed, 0.0, -1e4).to(query)[:, None, None, :]
        return query, key, value, mask


def _units(past: Tensor, quantiles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Return the last values, the widths (1 where there is none), and whether there is none, (B, D) each."""
    known = ~past.isnan()
    index = torch.where(known, torch.arange(past.shape[1], device=past.device)[:, None], 0).amax(1, keepdim=True)
    last = torch.where(known, past, 0.0).gather(1, index).squeeze(1)
    width = (quantiles[..., -1] - quantiles[..., 0]).mean(1)
    flat = width <= 1e-6 * (1 + last.abs())  # a constant has no width, and is not corrected
    return last, torch.where(flat, 1.0, width), flat


def _knots(horizon: int, knots: int = KNOTS) -> Tensor:
    r"""Return hat functions of the horizon step, (H, J), that sum to 1; one a step and zeros up to J steps."""
    if horizon <= knots:
        return torch.eye(horizon, knots, dtype=torch.float32)
    position = torch.linspace(0, knots - 1, horizon)
    return (1 - (position[:, None] - torch.arange(knots)).abs()).clamp(min=0)
