r"""Corrections of the frozen model's forecasts, in closed form."""

from __future__ import annotations

__all__ = ["Residual"]

from typing import ClassVar

import torch
from torch import Tensor

from ..solvers import RidgePath, cross_validated_error
from .base import AdapterModule, Evidence, State, fill_missing, register, varies, window_moments, window_statistics

#: Ridge strengths, relative to the mean eigenvalue of the regressors.
STRENGTHS = torch.logspace(-3, 5, 17, dtype=torch.float64)
#: The steps after which a past step counts half as much to the ridge.
AGEING = 12
#: What the channels' joint regressors are multiplied by before the ridge: 0 leaves a channel to its own past.
SHARES = (0.0, 0.3, 1.0)
_BUFFERS = ("basis", "weights", "strength", "share", "gram", "cross")


@register("residual")
class Residual(AdapterModule):
    r"""Adds to the frozen model's forecast what a ridge regression says it will miss.

    .. math:: y_{d} = f(x_d) + s_d \, \Phi W_d

    where :math:`f` is the frozen model, :math:`s_d` the window's scale and :math:`\Phi` holds, all normalised by the
    window: the channel's last value, its last steps and forecast as distances from that, and the leading principal
    components of the same of all channels. Each channel has its own :math:`W_d`; its strength, its share of the
    other channels and whether it corrects at all are chosen by blocked cross-validation over the train windows, so
    that :math:`W = 0`, the frozen model itself, is the answer where nothing is gained.

    Deterministic; shifts the frozen model's quantiles and keeps their spread; the latent channels are the observed
    ones, so one frozen pass serves the adapter and its gate; costs one matrix product. `Adapter.update` solves it again
    with the windows that came since, from sums alone, at the strengths chosen. Not meant for fewer train windows than a
    hundred or so: it then stays at zero.

    References:
        | Lightweight Online Adaption for Time Series Foundation Model Forecasts (Lee et al., 2025), the ridge beside
        | a frozen model, https://arxiv.org/abs/2502.12920
        | CoRA (2026), zero-initialised corrections across channels, https://arxiv.org/abs/2603.21828

    Arguments:
        lags: The number of last steps of a channel that its own correction reads; as many as the context has, at most
            96, if None.
        components: The number of principal components of all channels' last steps and forecasts.
        lead_blocks: The number of blocks of leads with strengths of their own; few windows bear one only.

    Example:
        >>> residual = Residual().build(channels=7)
        >>> z, state = residual.encode(torch.randn(32, 96, 7))
        >>> z.shape
        torch.Size([1, 32, 96, 7])
    """

    lags: int | None = None
    components: int = 32
    lead_blocks: int = 1

    observed_latents: ClassVar[bool] = True
    mixes_channels: ClassVar[bool] = False
    needs_forecast: ClassVar[bool] = True
    recursive: ClassVar[bool] = True

    basis: Tensor
    weights: Tensor
    strength: Tensor
    share: Tensor
    gram: Tensor  # (C, p, p), of the channels that are corrected: what `learn` adds to
    cross: Tensor  # (C, p, H)

    def _check(self) -> None:
        for name in ("lags", "components", "lead_blocks"):
            value = getattr(self, name)
            lowest = 0 if name == "components" else 1
            if not (name == "lags" and value is None) and (not isinstance(value, int) or value < lowest):
                raise ValueError(f"Residual expects {name} to be an integer of at least {lowest}, got {value!r}")

    @property
    def closed_form(self) -> bool:
        return True

    def _build(self, channels: int) -> None:
        # Their sizes are those of the windows, known when they are solved for; empty, they correct nothing.
        for name in _BUFFERS:
            self.register_buffer(name, torch.empty(0))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
        for name in _BUFFERS:
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _decode(self, z: Tensor, state: State) -> Tensor:
        if self.weights.numel() == 0:
            return z
        assert state.forecast is not None
        own, joint = self._regressors(state.past, state.forecast)  # (D, B, p), (B, C)
        joint = (joint @ self.basis).expand(self.channels, -1, -1)
        correction = torch.cat([own, joint], -1) @ self.weights  # (D, B, H)
        # A flat window tells no scale: it is left to the frozen model, which forecasts a constant as itself.
        size = torch.where(varies(*window_moments(state.past)), state.scale, 0.0)
        return z + correction.permute(1, 2, 0) * size

    def _regressors(self, past: Tensor, forecast: Tensor) -> tuple[Tensor, Tensor]:
        r"""The window-normalised regressors: each channel's own :math:`(D, B, p)`, and all channels' :math:`(B, C)`."""
        location, scale = window_statistics(past)
        lags = min(self.lags or 96, past.shape[1])
        recent = fill_missing((past[:, -lags:] - location) / scale, self.covariance)  # (B, P, D)
        last = recent[:, -1:]
        ahead = (forecast - location) / scale - last  # (B, H, D)
        # The ridge weighs what is small less: steps count less with their age, all as distances from the last one.
        weight = 1 / (1 + torch.arange(lags - 1, 0, -1, device=past.device) / AGEING)
        seen = torch.cat([(recent[:, :-1] - last) * weight[:, None], last, ahead], 1)  # (B, P + H, D)
        constant = torch.ones_like(seen[:, :1])
        return torch.cat([seen, constant], 1).permute(2, 0, 1), seen.flatten(1)

    @torch.no_grad()
    def solve(self, evidence: Evidence, *, choose: bool) -> None:
        own, joint = self._regressors(evidence.past, evidence.forecast)
        horizon = evidence.future.shape[1]
        if choose:
            count = min(self.components, *joint.shape)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # the randomised decomposition draws
                self.basis = torch.svd_lowrank(joint, q=count)[2] if count else joint.new_zeros(joint.shape[1], 0)
            self.strength = torch.full((self.channels, int(self._blocks(horizon).max()) + 1), torch.inf).double()
            self.share = torch.zeros_like(self.strength)
        self.weights = own.new_zeros(self.channels, own.shape[-1] + self.basis.shape[1], horizon)
        fold = evidence.fold if choose else torch.zeros(len(joint))
        grams, crosses = [], []
        for channel in range(self.channels):
            gram, cross, square = self._folded(*self._equations(channel, own, joint, evidence), fold)
            if choose:
                self._choose(channel, gram, cross, square)
            if bool(self.strength[channel].isfinite().any()):  # the others are zero
                grams.append(gram.sum(0))
                crosses.append(cross.sum(0))
        self.gram, self.cross = (torch.stack(each).float() if each else torch.empty(0) for each in (grams, crosses))
        self.settle()

    @torch.no_grad()
    def learn(self, evidence: Evidence) -> None:
        own, joint = self._regressors(evidence.past, evidence.forecast)
        for number, channel in enumerate(self._correcting):
            x, y = self._equations(channel, own, joint, evidence)
            self.gram[number] += (x.mT @ x).float()
            self.cross[number] += (x.mT @ y).float()

    @torch.no_grad()
    def settle(self) -> None:
        for number, channel in enumerate(self._correcting):
            gram, cross = self.gram[number].double(), self.cross[number].double()
            blocks, typical = self._blocks(cross.shape[1]), self._typical(gram)
            solution = torch.zeros_like(cross)
            for share in SHARES:
                chosen = (self.share[channel] == share)[blocks]  # (H,)
                if not bool(chosen.any()):
                    continue
                scaling = self._scaling(len(gram), share)
                path = RidgePath(gram * scaling * scaling.mT, cross * scaling)
                strength = self.strength[channel][blocks] * typical  # (H,)
                solution += torch.where(chosen, path.solve(strength) * scaling, 0.0)
            self.weights[channel] = solution.to(self.weights)

    @property
    def _correcting(self) -> list[int]:
        r"""The channels that are corrected."""
        return self.strength.isfinite().any(-1).nonzero().flatten().tolist() if self.strength.numel() else []

    def _blocks(self, horizon: int) -> Tensor:
        r"""The block of leads of each lead, (H,)."""
        return torch.arange(horizon) * min(self.lead_blocks, horizon) // horizon

    def _equations(self, channel: int, own: Tensor, joint: Tensor, evidence: Evidence) -> tuple[Tensor, Tensor]:
        r"""A channel's regressors (n, p) and targets (n, H), each window with the weight of its scale, float64."""
        missed = evidence.future[..., channel] - evidence.forecast[..., channel]  # (n, H)
        x = torch.cat([own[channel], joint @ self.basis], -1).double()
        unit = window_statistics(evidence.past)[1][:, :, channel].double()  # (n, 1)
        return x * unit.sqrt(), missed.nan_to_num(0.0).double() / unit.sqrt()

    def _typical(self, gram: Tensor) -> Tensor:
        r"""The mean square of a channel's own regressors, which strengths are relative to."""
        own = gram.shape[-1] - self.basis.shape[1]
        return gram.diagonal()[:own].mean().clamp(min=1e-12)

    def _scaling(self, regressors: int, share: float) -> Tensor:
        r"""The column (p, 1) that multiplies own regressors by 1 and the joint ones by their share."""
        scaling = torch.full((regressors, 1), share, dtype=torch.float64)
        scaling[: regressors - self.basis.shape[1]] = 1.0
        return scaling

    @staticmethod
    def _folded(x: Tensor, y: Tensor, fold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = [fold == one for one in range(int(fold.max()) + 1)]
        return (
            torch.stack([x[part].mT @ x[part] for part in parts]),
            torch.stack([x[part].mT @ y[part] for part in parts]),
            torch.stack([y[part].square().sum(0) for part in parts]),
        )

    def _choose(self, channel: int, gram: Tensor, cross: Tensor, square: Tensor) -> None:
        r"""Sets the channel's strength and share a block of leads to those of the least error left out."""
        blocks, typical = self._blocks(cross.shape[-1]), self._typical(gram.sum(0))
        best = torch.zeros(int(blocks.max()) + 1, dtype=torch.float64).index_add_(0, blocks, square.sum(0))
        for share in SHARES:
            scaling = self._scaling(gram.shape[-1], share)
            errors = cross_validated_error(gram * scaling * scaling.mT, cross * scaling, square, STRENGTHS * typical)
            for number in range(len(best)):
                error = errors[:, blocks == number].sum(1)  # (m,)
                least = int(error.argmin())
                if error[least] < best[number]:
                    best[number] = error[least]
                    self.strength[channel, number], self.share[channel, number] = STRENGTHS[least], share
