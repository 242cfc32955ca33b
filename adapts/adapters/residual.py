r"""Corrections of the frozen model's forecasts, in closed form."""

from __future__ import annotations

__all__ = ["Residual"]

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from .. import checks
from .._random import seeded
from ..persistence.tensors import taken
from ..statistics.ridge import RidgePath, cross_validated_error
from .base import AdapterModule, Evidence, State, fill_missing, register, varies, window_moments, window_statistics

#: Ridge strengths, relative to the mean eigenvalue of the regressors.
STRENGTHS = torch.logspace(-3, 5, 17, dtype=torch.float64)
#: The last steps that are read, where the caller does not say how many.
LAGS = 96
#: The steps after which a past step counts half as much to the ridge.
AGEING = 12
#: What the channels' joint regressors are multiplied by before the ridge: 0 leaves a channel to its own past.
SHARES = (0.0, 0.3, 1.0)
_BUFFERS = ("basis", "weights", "strength", "share", "gram", "cross", "gap", "guess", "filled")
#: The times that missing targets are filled with what the weights say, before these are the guess.
FILLINGS = 10


class Equations(NamedTuple):
    r"""The regression of one channel's errors, all in double precision.

    Arguments:
        x: The regressors, with shape :math:`(n, p)`; zero where no target of the window is seen.
        y: The targets, with shape :math:`(n, H)`; zero where missing.
        gap: The weights of the targets that are missing of windows that have others, with shape :math:`(n, H)`.
    """

    x: Tensor
    y: Tensor
    gap: Tensor

    def sums(self) -> tuple[Tensor, Tensor, Tensor]:
        r"""What can be known without weights: :math:`X^\top X`, :math:`X^\top Y` and the sums of what is missing."""
        return self.x.mT @ self.x, self.x.mT @ self.y, self.gap.sum(0)

    def filled(self, weights: Tensor) -> Tensor:
        r"""What coefficients :math:`(p, H)` add to :math:`X^\top Y` where they fill what is missing."""
        missing = self.gap > 0
        return self.x.mT @ (missing * (self.x @ weights)) if bool(missing.any()) else torch.zeros_like(weights)

    def error(self, weights: Tensor) -> Tensor:
        r"""The squared errors of coefficients :math:`(p, H)`, summed over the targets seen, with shape :math:`(H,)`."""
        return torch.where(self.gap > 0, 0.0, self.y - self.x @ weights).square().sum(0)


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

    Windows of which a channel's targets are all missing are left out for it. Of those that miss some, one matrix serves
    all leads: the errors seen, of weights that were first found by filling in what these say, stand for those missing.
    That is the ridge of the cells seen on the windows that strengths are chosen on; with the windows that came since,
    right in the mean where cells are missing at random, however many. A strength is relative to what is seen.

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
    found_later: ClassVar[tuple[str, ...]] = _BUFFERS
    unbounded: ClassVar[tuple[str, ...]] = ("strength",)

    basis: Tensor
    weights: Tensor
    strength: Tensor
    share: Tensor
    gram: Tensor  # (C, p, p), of the channels that are corrected: what `learn` adds to
    cross: Tensor  # (C, p, H)
    gap: Tensor  # (C, H), the weights of the targets that are missing
    guess: Tensor  # (D, p, H), the weights that say what the missing targets were
    filled: Tensor  # (C, p, H), what these add to `cross`

    def _check(self) -> None:
        checks.integer("Residual expects lags", self.lags, none=True)
        checks.integer("Residual expects components", self.components, least=0)
        checks.integer("Residual expects lead_blocks", self.lead_blocks)

    @property
    def closed_form(self) -> bool:
        return True

    def _build(self, channels: int) -> None:
        # Their sizes are those of the windows, known when they are solved for; empty, they correct nothing.
        for name in _BUFFERS:
            self.register_buffer(name, torch.empty(0, dtype=torch.float32))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
        for name in _BUFFERS:
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def require_sound(self, context_length: int, prediction_length: int) -> None:
        super().require_sound(context_length, prediction_length)
        state = {name: getattr(self, name) for name in _BUFFERS}
        if not any(tensor.numel() for tensor in state.values()):  # not solved
            return
        own = min(self.lags or LAGS, context_length) + prediction_length + 1
        basis = taken(state, "basis", torch.float32, ((own - 1) * self.channels, None))
        blocks, count = int(self._blocks(prediction_length).max()) + 1, own + basis.shape[1]
        taken(state, "strength", torch.float64, (self.channels, blocks), low=0.0, infinite=True)
        taken(state, "share", torch.float64, (self.channels, blocks), low=0.0, high=1.0)
        for name in ("weights", "guess"):
            taken(state, name, torch.float32, (self.channels, count, prediction_length))
        shapes = {"gram": (count, count), "cross": (count, prediction_length), "filled": (count, prediction_length)}
        for name, shape in {**shapes, "gap": (prediction_length,)}.items():
            corrected = len(self._correcting)
            taken(state, name, torch.float32, (corrected, *shape) if corrected else (0,))

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
        lags = min(self.lags or LAGS, past.shape[1])
        recent = fill_missing((past[:, -lags:] - location) / scale, self.covariance)  # (B, P, D)
        last = recent[:, -1:]
        ahead = (forecast - location) / scale - last  # (B, H, D)
        # The ridge weighs what is small less: steps count less with their age, all as distances from the last one.
        weight = 1 / (1 + torch.arange(lags - 1, 0, -1, device=past.device, dtype=torch.float32) / AGEING)
        seen = torch.cat([(recent[:, :-1] - last) * weight[:, None], last, ahead], 1)  # (B, P + H, D)
        constant = torch.ones_like(seen[:, :1])
        return torch.cat([seen, constant], 1).permute(2, 0, 1), seen.flatten(1)

    @torch.no_grad()
    def solve(self, evidence: Evidence, *, choose: bool) -> None:
        own, joint = self._regressors(evidence.past, evidence.forecast)
        horizon = evidence.future.shape[1]
        if choose:
            count = min(self.components, *joint.shape)
            with seeded(0):  # the randomised decomposition draws
                self.basis = torch.svd_lowrank(joint, q=count)[2] if count else joint.new_zeros(joint.shape[1], 0)
            blocks = int(self._blocks(horizon).max()) + 1
            self.strength = torch.full((self.channels, blocks), torch.inf, dtype=torch.float64)
            self.share = torch.zeros_like(self.strength)
        self.weights = own.new_zeros(self.channels, own.shape[-1] + self.basis.shape[1], horizon)
        fold = evidence.fold if choose else torch.zeros(len(joint), dtype=torch.long)
        if choose:
            self.guess = torch.zeros_like(self.weights)
        parts = [fold == one for one in range(int(fold.max()) + 1)]
        kept: list[tuple[Tensor, ...]] = []
        for channel in range(self.channels):
            equations = self.equations(channel, own, joint, evidence)
            each = [Equations(*(of[part] for of in equations)) for part in parts]
            sums = [one.sums() for one in each]
            if choose:
                self._choose(channel, each, sums)
            if bool(self.strength[channel].isfinite().any()):  # the others are zero
                gram, cross, gap = (torch.stack(of).sum(0) for of in zip(*sums, strict=True))
                if choose:
                    self.guess[channel] = self._guess(channel, each, gram, cross, gap).to(self.guess)
                guess = self.guess[channel].double()
                kept.append((gram, cross, gap, torch.stack([one.filled(guess) for one in each]).sum(0)))
        self.gram, self.cross, self.gap, self.filled = (
            torch.stack(of).float() if of else torch.empty(0, dtype=torch.float32)
            for of in (zip(*kept, strict=True) if kept else [()] * 4)
        )
        self.settle()

    @torch.no_grad()
    def learn(self, evidence: Evidence) -> None:
        own, joint = self._regressors(evidence.past, evidence.forecast)
        for number, channel in enumerate(self._correcting):
            equations = self.equations(channel, own, joint, evidence)
            sums = *equations.sums(), equations.filled(self.guess[channel].double())
            for of, added in zip((self.gram, self.cross, self.gap, self.filled), sums, strict=True):
                of[number] += added.float()

    @torch.no_grad()
    def settle(self) -> None:
        for number, channel in enumerate(self._correcting):
            sums = (of[number].double() for of in (self.gram, self.cross, self.gap, self.filled))
            gram, cross = self.completed(channel, *sums)
            self.weights[channel] = self._ridge(channel, gram, cross).to(self.weights)

    def _ridge(self, channel: int, gram: Tensor, cross: Tensor, inflation: float | Tensor = 1.0) -> Tensor:
        r"""The solution (p, H) at the strengths chosen, over what sums were inflated by."""
        blocks, typical = self._blocks(cross.shape[1]), self._typical(gram)
        solution = torch.zeros_like(cross)
        for share in SHARES:
            chosen = (self.share[channel] == share)[blocks]  # (H,)
            if not bool(chosen.any()):
                continue
            scaling = self._scaling(len(gram), share)
            path = RidgePath(gram * scaling * scaling.mT, cross * scaling)
            strength = self.strength[channel][blocks] * typical / inflation  # (H,)
            solution += torch.where(chosen, path.solve(strength) * scaling, 0.0)
        return solution

    def _guess(self, channel: int, each: list[Equations], gram: Tensor, cross: Tensor, gap: Tensor) -> Tensor:
        r"""The ridge of the cells seen, to which filling in what the last weights say leads."""
        inflation = self.inflation(gram, gap)
        weights = self._ridge(channel, gram, cross * inflation)
        for _ in range(FILLINGS if bool(gap.any()) else 0):
            filled = torch.stack([one.filled(weights) for one in each]).sum(0)
            weights = self._ridge(channel, gram, cross + filled, inflation)
        return weights

    def completed(
        self, channel: int, gram: Tensor, cross: Tensor, gap: Tensor, filled: Tensor
    ) -> tuple[Tensor, Tensor]:
        r"""The sums as if all targets had been seen: by the guess, and by its errors where they were seen."""
        inflation, guess = self.inflation(gram, gap), self.guess[channel].double()
        return gram, inflation * (cross + filled) + (1 - inflation) * (gram @ guess)

    @property
    def _correcting(self) -> list[int]:
        r"""The channels that are corrected."""
        return self.strength.isfinite().any(-1).nonzero().flatten().tolist() if self.strength.numel() else []

    def _blocks(self, horizon: int) -> Tensor:
        r"""The block of leads of each lead, (H,)."""
        return torch.arange(horizon) * min(self.lead_blocks, horizon) // horizon

    def equations(self, channel: int, own: Tensor, joint: Tensor, evidence: Evidence) -> Equations:
        r"""A channel's regression, each window with the weight of its scale."""
        missed = evidence.future[..., channel] - evidence.forecast[..., channel]  # (n, H)
        x = torch.cat([own[channel], joint @ self.basis], -1).double()
        unit = window_statistics(evidence.past)[1][:, :, channel].double()  # (n, 1)
        seen = ~missed.isnan()
        told = seen.any(1, keepdim=True)  # a window of which nothing is seen says nothing
        x = torch.where(told, x * unit.sqrt(), 0.0)
        return Equations(x, missed.nan_to_num(0.0).double() / unit.sqrt(), (~seen & told) * unit)

    def inflation(self, gram: Tensor, gap: Tensor) -> Tensor:
        r"""What the sums over the targets seen of each lead are multiplied by to stand for all, (*, H)."""
        constant = gram.shape[-1] - self.basis.shape[1] - 1  # its square is the weight of the windows
        total = gram[..., constant, constant].unsqueeze(-1).clamp(min=1e-30)
        return total / (total - gap).clamp(min=1e-6 * total)

    def _typical(self, gram: Tensor) -> Tensor:
        r"""The mean square of a channel's own regressors, which strengths are relative to."""
        own = gram.shape[-1] - self.basis.shape[1]
        return gram.diagonal()[:own].mean().clamp(min=1e-12)

    def _scaling(self, regressors: int, share: float) -> Tensor:
        r"""The column (p, 1) that multiplies own regressors by 1 and the joint ones by their share."""
        scaling = torch.full((regressors, 1), share, dtype=torch.float64)
        scaling[: regressors - self.basis.shape[1]] = 1.0
        return scaling

    def _choose(self, channel: int, each: list[Equations], sums: list[tuple[Tensor, Tensor, Tensor]]) -> None:
        r"""Sets the channel's strength and share a block of leads to those of the least error left out of each fold."""
        gram, cross, gap = (torch.stack(of) for of in zip(*sums, strict=True))
        square = torch.stack([one.y.square().sum(0) for one in each])
        blocks, strengths = self._blocks(cross.shape[-1]), STRENGTHS * self._typical(gram.sum(0))
        best = torch.zeros(int(blocks.max()) + 1, dtype=torch.float64).index_add_(0, blocks, square.sum(0))
        for share in SHARES:
            scaling = self._scaling(gram.shape[-1], share)
            if bool(gap.any()):
                inflated = (cross.sum(0) - cross) * self.inflation(gram.sum(0) - gram, gap.sum(0) - gap).unsqueeze(1)
                rest = RidgePath((gram.sum(0) - gram) * scaling * scaling.mT, inflated * scaling)
                solutions = (rest.solve(strength) * scaling for strength in strengths)
                errors = torch.stack([
                    torch.stack([one.error(weights) for one, weights in zip(each, those, strict=True)]).sum(0)
                    for those in solutions
                ])  # fmt: skip
            else:
                errors = cross_validated_error(gram * scaling * scaling.mT, cross * scaling, square, strengths)
            for number in range(len(best)):
                error = errors[:, blocks == number].sum(1)  # (m,)
                least = int(error.argmin())
                if error[least] < best[number]:
                    best[number] = error[least]
                    self.strength[channel, number], self.share[channel, number] = STRENGTHS[least], share
