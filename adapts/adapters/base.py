r"""Base classes of adapter families: hyperparameters, checks, missing cells, window normalisation."""

from __future__ import annotations

__all__ = ["AdapterModule", "RegressionData", "Normalised", "State", "families", "make", "register"]

import copy
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .. import checks
from ..batching import slices
from ..errors import shown, unknown
from ..persistence.tensors import Kind, kind_of, require_names, written
from ..registry import FAMILIES, resolve
from ..statistics.gaussian import made_definite, pairwise_covariance
from .capabilities import Capabilities, Optimisation
from .state import RegressionData, State

#: The variance, relative to the squared mean, that rounding in single precision leaves in a constant window.
FLAT = 1e-12
#: The maximum number of weights of a family: far more than train windows identify, about 1 GB in training.
MOST_WEIGHTS = 2**26
#: The maximum width of hidden layers and the maximum number of layers of a family's networks.
WIDEST, DEEPEST = 2**12, 2**8
#: How error messages describe a numeric option, by its annotation.
NUMBERS = {
    "int": "an integer",
    "int | None": "an integer or None",
    "float": "a number",
    "float | None": "a number or None",
}

#: Options that count the repeated components of a family.
REPEATED = ("depth", "transforms", "members")
#: The maximum numbers of repetitions and of hidden-layer weights that the saved tensors do not account for.
MOST_UNSEEN, SMALL = 64, 2**22

_ROSTER: dict[str, type[AdapterModule]] = {}
_Family = TypeVar("_Family", bound="type[AdapterModule]")


def register(name: str) -> Callable[[_Family], _Family]:
    r"""Register a family under the name that presets and `Adapter` use.

    Arguments:
        name: The family's name; lower case.

    Returns:
        The class decorator.

    Raises:
        ValueError: If another class is registered under the name.
    """

    def enter(family: _Family) -> _Family:
        holder = _ROSTER.get(name)
        if holder is not None and holder.__qualname__ != family.__qualname__:
            raise ValueError(
                f"the adapter name {name!r} belongs to {holder.__module__}.{holder.__qualname__}: choose another"
            )
        family.family = name
        _ROSTER[name] = family
        return family

    return enter


def families() -> dict[str, type[AdapterModule]]:
    r"""Return the registered families by name; those of `adapts.registry.FAMILIES` are imported."""
    for name, entry in FAMILIES.items():
        if name not in _ROSTER:
            resolve(entry)
    return dict(sorted(_ROSTER.items()))


def make(name: str, options: Mapping[str, Any] | None = None) -> AdapterModule:
    r"""Instantiate a family by its registered name.

    Arguments:
        name: The family's name.
        options: The family's hyperparameters; the defaults of its class for those left out.

    Returns:
        The family, not yet built for a number of channels.

    Raises:
        ValueError: If no family has that name, or the family has no such option.
    """
    checks.choice("adapter", name, families())
    if options is not None and not (isinstance(options, Mapping) and all(isinstance(key, str) for key in options)):
        raise ValueError(f"expected options of a family as a mapping of names to values, got {shown(options)}")
    return _ROSTER[name](**(options or {}))


@dataclass_transform(kw_only_default=True)
class AdapterModule(nn.Module):
    r"""Abstract adapter: encodes channels to latent channels and decodes their forecasts to the observed channels.

    Class attributes with an annotation and a default are the hyperparameters of a family, passed by keyword. `build`
    returns a copy with parameters for a given number of channels. `prepare` then passes it the train rows once.
    """

    family: ClassVar[str] = ""
    #: The default objective of training by gradient; a preset or the caller may override it.
    objective: str = "huber"
    #: The factor of the latent divergence in the objective "elbo"; a family may make it a hyperparameter.
    beta: float = 1.0

    channels: int
    #: The number of known covariates :math:`C` that the built family reads.
    known: int
    #: The number of sines and cosines of the calendar that it reads.
    calendar: int
    #: The names of the further frozen models that it averages.
    further: tuple[str, ...]
    covariance: Tensor

    def __init__(self, *unnamed: Any, **options: Any) -> None:
        super().__init__()
        declared, family = self._declared(), type(self).__name__
        if unnamed:
            known = ", ".join(declared) or "none"
            raise TypeError(f"{family} takes its options by name ({known}), got {shown(unnamed[0])} without one")
        for name in options:
            if name not in declared:
                raise unknown(f"option of {family}", name, declared)
        for name, (default, kind) in declared.items():
            value = options.get(name, default)
            value = value.item() if isinstance(value, np.generic) else value
            if isinstance(value, bool) and kind in NUMBERS:  # Python would accept it as 0 or 1
                raise ValueError(f"{family} expects {name} to be {NUMBERS[kind]}, got {value!r}")
            setattr(self, name, value)
        self.channels, self.known, self.calendar, self.further = 0, 0, 0, ()
        self._check()

    @classmethod
    def fields(cls) -> dict[str, Any]:
        r"""Return the family's hyperparameters with their defaults, in the order of declaration."""
        return {name: default for name, (default, _) in cls._declared().items()}

    @classmethod
    def _declared(cls) -> dict[str, tuple[Any, str]]:
        r"""Return the hyperparameters with their defaults and annotations."""
        return {
            name: (getattr(base, name), getattr(kind, "__name__", str(kind)))
            for base in reversed(cls.__mro__)
            if issubclass(base, AdapterModule) and base is not AdapterModule
            for name, kind in base.__dict__.get("__annotations__", {}).items()
            if not str(kind).startswith(("ClassVar", "typing.ClassVar")) and name in base.__dict__
        }

    def options(self) -> dict[str, Any]:
        r"""Return the current values of the hyperparameters."""
        return {name: getattr(self, name) for name in self.fields()}

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options().items())

    # ------------------------------------------------------------------ construction

    @property
    def latents(self) -> int:
        r"""The number of latent channels :math:`K`."""
        return self.channels

    @property
    def label(self) -> str:
        r"""The name in summaries."""
        return self.family

    @property
    def capabilities(self) -> Capabilities:
        r"""What the family can do, and what it needs: `dataclasses.replace(super().capabilities, ...)` in families."""
        return Capabilities(
            penalised=type(self).penalty is not AdapterModule.penalty,
            fits_after_training=type(self).after_training is not AdapterModule.after_training,
        )

    @property
    def optimisation(self) -> Optimisation:
        r"""How the family is trained by gradient, where the caller says nothing else."""
        return Optimisation()

    def count_draws(self, draws: int) -> int:
        r"""Return the number of draws that the adapter makes when a number is requested.

        Arguments:
            draws: The number requested.

        Returns:
            The number of draws :math:`M`; 1 where the adapter is deterministic.
        """
        return draws if self.capabilities.stochastic else 1

    def build(self, channels: int, known: int = 0, calendar: int = 0, further: Sequence[str] = ()) -> Self:
        r"""Create the parameters for a number of channels.

        Arguments:
            channels: The number of observed channels :math:`D`.
            known: The number of known covariates :math:`C`; only families that declare `needs_known` read them.
            calendar: The number of sines and cosines of the calendar; only families that declare `needs_calendar` read
                them.
            further: The names of further frozen models, whose forecasts a portfolio averages; others ignore them.

        Returns:
            A built copy; the family itself is unchanged.

        Raises:
            ValueError: If the hyperparameters do not fit that many channels.
        """
        if not isinstance(channels, int) or isinstance(channels, bool) or channels < 1:
            raise ValueError(f"{type(self).__name__}.build expects at least one channel, got {shown(channels)}")
        checks.integer(f"{type(self).__name__}.build expects known", known, least=0)
        checks.integer(f"{type(self).__name__}.build expects calendar", calendar, least=0)
        built = copy.deepcopy(self)
        built.known = known if self.capabilities.needs_known else 0
        built.calendar = calendar if self.capabilities.needs_calendar else 0
        built.further = tuple(further) if self.capabilities.takes_further else ()
        require_size(built, built._count_weights(channels))
        built.channels = channels
        built.register_buffer("covariance", torch.eye(channels, dtype=torch.float32))
        built._build(channels)
        return built

    def require_sizes(self, channels: int, kinds: Mapping[str, Kind]) -> None:
        r"""Check, before building, that a family is not far larger than its saved tensors.

        Options that come from a file are checked here before they allocate anything; `require_kinds` compares the rest.

        Arguments:
            channels: The number of observed channels :math:`D`.
            kinds: The type and shape of each saved tensor.

        Raises:
            ValueError: If it is far larger.
        """
        counts = {name: count for name in REPEATED if isinstance(count := getattr(self, name, None), int)}
        for name, count in counts.items():
            if count > MOST_UNSEEN + len(kinds):
                raise ValueError(f"{type(self).__name__} with {name}={shown(count)} has more tensors than were saved")
        hidden, latents = (
            value if isinstance(value := getattr(self, name, None), int) else 0
            for name in ("hidden", "latent_channels")
        )
        layers = hidden * (channels + hidden * counts.get("depth", 1)) * counts.get("transforms", 1)
        if layers > SMALL + 4 * sum(math.prod(shape) for _, shape in kinds.values()):
            raise ValueError(f"{type(self).__name__} with hidden={shown(hidden)} is larger than its saved tensors")
        if latents > channels:
            raise ValueError(f"{type(self).__name__} has latent_channels={shown(latents)} for {channels} channels")

    def require_kinds(self, kinds: Mapping[str, Kind]) -> None:
        r"""Check the names, types and shapes of saved tensors against those of the built family.

        Arguments:
            kinds: The type and shape of each saved tensor.

        Raises:
            ValueError: If the family has other tensors.
        """
        expected = {name: kind_of(tensor) for name, tensor in self.state_dict().items()}
        require_names(f"the family {self.family!r}", kinds, expected)
        for name, kind in expected.items():
            if kinds[name] != kind and name not in self.capabilities.found_later:
                raise ValueError(
                    f"the family {self.family!r} has the tensor {name!r} as {written(kind)}, got {written(kinds[name])}"
                )

    def require_sound(self, context_length: int, prediction_length: int) -> None:
        r"""Check the tensors of a family that was loaded from a file.

        Arguments:
            context_length: The number of context steps :math:`L`.
            prediction_length: The number of target steps :math:`H`.

        Raises:
            ValueError: If a tensor holds values that no fit produces.
        """
        for name, tensor in self.state_dict().items():
            short_name = name.rpartition(".")[2]
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                if short_name not in self.capabilities.unbounded or bool(tensor.isnan().any()):
                    raise ValueError(f"the tensor {name!r} of {type(self).__name__} holds values that are not finite")
        covariance = self.covariance.double()
        if not torch.allclose(covariance, covariance.mT) or int(torch.linalg.cholesky_ex(covariance).info):
            raise ValueError(f"the covariance of {type(self).__name__} is expected to be positive definite")

    def prepare(self, rows: Tensor) -> None:
        r"""Fit the covariance that fills missing cells, and initial directions, to the train rows.

        Arguments:
            rows: Standardised train rows, with shape :math:`(T, D)`. NaN marks a missing cell.
        """
        self._require("prepare", "rows", rows, rows.ndim == 2 and rows.shape[-1] == self.channels, "(time, {D})")
        self.covariance.copy_(made_definite(pairwise_covariance(rows)))
        self._prepare(rows)

    def solve(self, data: RegressionData, *, choose: bool) -> None:
        r"""Compute the parameters in closed form, for families that have one.

        Arguments:
            data: The windows to solve on.
            choose: Whether to select the ridge strengths by blocked cross-validation over `data.fold`; with fewer than
                two folds, the greatest is taken. Otherwise those selected before are used.
        """
        raise NotImplementedError(f"{type(self).__name__} has no closed form")

    def partial_fit(self, data: RegressionData) -> None:
        r"""Add windows to the regression data, for the next `refit`; for recursive families.

        Arguments:
            data: New windows, later than those of `solve` and of earlier calls.
        """
        raise NotImplementedError(f"{type(self).__name__} is not recursive")

    def refit(self) -> None:
        r"""Refit on all windows so far with the selected strengths; for recursive families."""
        raise NotImplementedError(f"{type(self).__name__} is not recursive")

    # ------------------------------------------------------------------ encoding and decoding

    def encode(self, x: Tensor, *, draws: int = 1, generator: torch.Generator | None = None) -> tuple[Tensor, State]:
        r"""Map observed channels to latent channels, :math:`z = \varphi(x)`.

        Before channels are mixed, missing cells are filled with their conditional mean given the channels observed at
        the same step (covariance of the train rows). Steps without any observed channel take the window's location.
        Where the latent channels are the observed ones, NaN is passed on to the frozen model.

        A stochastic family draws :math:`M` times and stores the draws in the state, so that `decode` uses the same
        ones. In evaluation mode all windows share each draw, so that no window's forecast depends on the others.

        Arguments:
            x: The standardised past, with shape :math:`(B, L, D)`. NaN marks a missing step.
            draws: The number of draws of a stochastic family.
            generator: The random generator of the draws; PyTorch's own if None.

        Returns:
            The latent past, with shape :math:`(M, B, L, K)` (:math:`M = 1` unless each draw has its own latents), and
            the state that `decode` needs.

        Raises:
            ValueError: If `x` does not have that shape.
        """
        self._require("encode", "x", x, x.ndim == 3 and x.shape[-1] == self.channels, "(batch, time, {D})")
        location, scale = self.location_scale(x)
        state = State(x, location, scale, draws=self.count_draws(draws), generator=generator)
        self._draw(state)
        if self.capabilities.observed_latents:
            return x.unsqueeze(0), state
        z = self._encode(fill_missing(_normalised(x, state), self.covariance), state)
        return (z if z.ndim == 4 else z.unsqueeze(0)), state

    def encode_future(self, y: Tensor, state: State) -> Tensor:
        r"""Map observed targets to latent targets, in the units of the windows' own latent pasts.

        Arguments:
            y: The standardised targets, with shape :math:`(B, H, D)`. NaN marks a missing step.
            state: The state of these windows.

        Returns:
            The latent targets, with shape :math:`(B, H, K)`, of the first draw where there are several; NaN at steps
            where a channel is missing.
        """
        if self.capabilities.observed_latents:
            return y
        z = self._encode(_normalised(y, state), state)
        return z[0] if z.ndim == 4 else z

    def decode(self, paths: Tensor, state: State) -> Tensor:
        r"""Map forecasts of the latent channels to forecasts of the observed channels.

        Arguments:
            paths: Latent paths, with shape :math:`(S, B, H, K)`. Where the state holds :math:`M` draws, :math:`S` is a
                multiple of :math:`M`, and the first :math:`S / M` paths belong to the first draw.
            state: The state that `encode` returned for these windows.

        Returns:
            The observed paths, standardised, with shape :math:`(S, B, H, D)`.

        Raises:
            ValueError: If `paths` does not have that shape.
        """
        self._require("decode", "paths", paths, paths.ndim == 4 and paths.shape[-1] == self.latents,
                      "(samples, batch, time, {K})")  # fmt: skip
        if len(paths) % state.draws:
            raise ValueError(
                f"{type(self).__name__}.decode expects a multiple of {state.draws} paths, as many for each draw, got "
                f"{len(paths)} paths"
            )
        if self.capabilities.observed_latents:
            return self._decode(paths, state)
        return self._decode(paths, state) * state.scale + state.location

    def latent_levels(self, u: Tensor) -> Tensor:
        r"""Return the latent quantile levels that give the observed levels, where decoding mixes no channels.

        Arguments:
            u: Levels of the observed channels, with shape :math:`(*, D)`.

        Returns:
            Levels of the latent channels, with shape :math:`(*, K)`.
        """
        assert not self.capabilities.mixes_channels and self.latents == self.channels
        return u

    def divergence(self, state: State) -> Tensor:
        r"""Return the divergence of each window's latent draws from their prior, :math:`KL(q(Z|X) \| p(Z))`, in nats.

        Arguments:
            state: The state that `encode` returned for these windows.

        Returns:
            The divergences, with shape :math:`(B,)`; 0 where windows have no latent draws.
        """
        return state.location.new_zeros(len(state.past))

    def weight_divergence(self) -> Tensor:
        r"""Return the divergence of the weights from their prior, :math:`KL(q(W) \| p(W))`, in nats; a scalar."""
        return self.covariance.new_zeros(())

    def penalty(self, forecast: Tensor, future: Tensor, state: State) -> Tensor:
        r"""Return the family's own term of the training objective, a scalar; 0 by default.

        Arguments:
            forecast: The frozen model's median forecasts of each draw's latent channels, with shape
                :math:`(M, B, H, K)`.
            future: The standardised targets, with shape :math:`(B, H, D)`. NaN marks a missing step.
            state: The state of these windows.
        """
        return self.covariance.new_zeros(())

    def before_training(self, past: Tensor, quantiles: Tensor) -> None:
        r"""Read the train windows once before training by gradient, for families that declare `needs_quantiles`.

        Arguments:
            past: The standardised past, with shape :math:`(n, L, D)`. NaN marks a missing step.
            quantiles: The frozen model's quantiles of the observed channels, with shape :math:`(n, H, D, Q)`.
        """

    def after_training(
        self,
        data: RegressionData,
        through: Callable[[Tensor], Tensor] | None = None,
        *,
        horizon_weights: float = 1.0,
    ) -> None:
        r"""Fit what gradients do not train; nothing by default.

        Arguments:
            data: The train windows, with the frozen model's median forecasts of the latent channels.
            through: The frozen model as a differentiable map from latent pasts, with shape :math:`(b, L, K)`, to their
                median forecasts, with shape :math:`(b, H, K)`.
            horizon_weights: The weight of each horizon step relative to the step before, as in training.
        """

    def likelihood(self, prediction: Tensor, state: State) -> Distribution | None:
        r"""Return the distribution of the targets given the decoded paths, for families that declare one.

        Arguments:
            prediction: Decoded paths, with shape :math:`(S, B, H, D)`.
            state: The state of these windows.

        Returns:
            Independent distributions of the cells. None by default: training then uses normal distributions with a
            learned scale for each channel.
        """
        return None

    def reference_variance(self, past: Tensor) -> Tensor:
        r"""Return the windows' variances, the reference of the noise variance added to the predictive distribution.

        Arguments:
            past: The standardised past, with shape :math:`(B, L, D)`. NaN marks a missing step.

        Returns:
            The variances, with shape :math:`(B, D)`.
        """
        return window_moments(past)[1][:, 0]

    def source_weights(self, state: State) -> Tensor | None:
        r"""Return how much the adapter's part of each channel's forecast rests on each channel, for families that tell.

        Arguments:
            state: The state of windows, with the frozen model's forecasts if the family needs them.

        Returns:
            Non-negative weights averaged over the windows, with shape :math:`(H, D, D)`, or :math:`(1, D, D)` where all
            horizon steps have the same: entry (h, d, s) is the weight of channel s in channel d. They sum to 1 over s,
            or are 0 for a channel that the adapter leaves as it is. None by default.
        """
        return None

    def location_scale(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return the location and scale that normalise windows before encoding.

        Arguments:
            x: The standardised past, with shape :math:`(B, L, D)`. NaN marks a missing step.

        Returns:
            The location and the positive scale, both of shape :math:`(B, 1, D)`.
        """
        return window_statistics(x)

    # ------------------------------------------------------------------ hooks for families

    def _check(self) -> None:
        r"""Check the hyperparameters."""

    def _count_weights(self, channels: int) -> int:
        r"""Estimate how many weights `_build` creates, before it does."""
        return channels * channels

    @abstractmethod
    def _build(self, channels: int) -> None:
        r"""Create parameters and buffers."""

    def _prepare(self, rows: Tensor) -> None:
        r"""Compute initial directions from the train rows."""

    def _draw(self, state: State) -> None:
        r"""Store random draws in the state: one per window in training, shared by all windows otherwise."""

    def _encode(self, x: Tensor, state: State) -> Tensor:
        r"""Map normalised, filled rows :math:`(B, L, D)` to latent rows :math:`(B, L, K)` or :math:`(M, B, L, K)`."""
        return x

    @abstractmethod
    def _decode(self, z: Tensor, state: State) -> Tensor:
        r"""Map latent paths :math:`(S, B, H, K)` to normalised paths :math:`(S, B, H, D)`."""

    # ------------------------------------------------------------------ shared helpers

    def _require(self, method: str, name: str, value: Tensor, fits: bool, expected: str) -> None:
        if self.channels == 0:
            raise ValueError(f"{type(self).__name__}.{method} needs a built adapter: call build(channels=...) first")
        if fits:
            return
        size = self.latents if "{K}" in expected else self.channels
        expected = expected.replace("{D}", str(size)).replace("{K}", str(size))
        hint = ""
        if value.ndim >= 2 and value.shape[-1] != size and value.shape[-2] == size:
            hint = f". Axis -2 has {size} entries: pass {name}.mT"
        raise ValueError(
            f"{type(self).__name__}.{method} takes {name!r} of shape {expected}, got {tuple(value.shape)}{hint}"
        )


class Normalised(AdapterModule):
    r"""Abstract adapter whose latent channels are computed from normalised channels.

    References:
        | Reversible Instance Normalization against Distribution Shift (Kim et al., 2022), RevIN
        | https://openreview.net/forum?id=cGDAkQo1C0p

    Arguments:
        normalisation: `"window"`: each window by its own mean and standard deviation. `"train"`: all windows by those
            of the train rows.
        affine: Whether a trained gain and offset per channel follow the normalisation; decoding inverts them.
    """

    normalisation: str = "window"
    affine: bool = False

    log_gain: Tensor
    offset: Tensor

    def _check(self) -> None:
        checks.choice("normalisation", self.normalisation, ["window", "train"])
        checks.flag(f"{type(self).__name__} expects affine", self.affine)

    def build(self, channels: int, known: int = 0, calendar: int = 0, further: Sequence[str] = ()) -> Self:
        built = super().build(channels, known, calendar, further)
        if built.affine:
            built.log_gain = nn.Parameter(torch.zeros(channels, dtype=torch.float32))
            built.offset = nn.Parameter(torch.zeros(channels, dtype=torch.float32))
        return built

    def location_scale(self, x: Tensor) -> tuple[Tensor, Tensor]:
        location, scale = window_statistics(x)
        if self.normalisation == "train":
            location, scale = torch.zeros_like(location), torch.ones_like(scale)
        if self.affine:  # ((x - location) / scale) * gain + offset, as one shift and one division
            scale = scale * torch.exp(-self.log_gain)
            location = location - self.offset * scale
        return location, scale


def shares(parts: Tensor) -> Tensor:
    r"""Return the shares of non-negative parts in their sum over the last axis; 0 where it is 0.

    Arguments:
        parts: The parts, with shape :math:`(*, D)`.
    """
    total = parts.sum(-1, keepdim=True)
    return parts / torch.where(total > 0, total, 1.0)


def require_size(family: AdapterModule, weights: int) -> None:
    r"""Raise an error if a family would have more weights than fit into memory during training.

    Arguments:
        family: The family, named in the error.
        weights: The approximate number of weights.

    Raises:
        ValueError: If there are too many.
    """
    if weights > MOST_WEIGHTS:
        sizes = ", ".join(f"{name}={shown(x)}" for name, x in family.options().items() if isinstance(x, int | Mapping))
        raise ValueError(
            f"{type(family).__name__} would have {shown(weights)} weights, at most {MOST_WEIGHTS} are allowed: pass "
            f"fewer channels, or smaller options{f' ({sizes})' if sizes else ''}"
        )


def _normalised(x: Tensor, state: State) -> Tensor:
    r"""Normalise rows :math:`(B, L, D)`; NaN is kept, and missing cells give location and scale no gradient."""
    observed = ~x.isnan()
    return torch.where(observed, (torch.where(observed, x, 0.0) - state.location) / state.scale, torch.nan)


def window_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return mean and variance of each window and channel over the observed steps; 0 where there are none.

    Arguments:
        x: Windows, with shape :math:`(B, L, D)`. NaN marks a missing step.

    Returns:
        The means and the population variances, both of shape :math:`(B, 1, D)`.
    """
    observed = ~x.isnan()
    count = observed.sum(-2, keepdim=True).clamp(min=1)
    mean = torch.where(observed, x, 0.0).sum(-2, keepdim=True) / count
    return mean, torch.where(observed, x - mean, 0.0).square().sum(-2, keepdim=True) / count


def window_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return mean and standard deviation of each window and channel, as RevIN (Kim et al., 2022).

    Gradients are finite everywhere: the square root is taken only of positive variances.

    Arguments:
        x: Windows, with shape :math:`(B, L, D)`. NaN marks a missing step.

    Returns:
        The location, 0 where nothing is observed, and the scale, 1 for constant windows; both of shape
        :math:`(B, 1, D)`.
    """
    location, variance = window_moments(x)
    varying = varies(location, variance)
    return location, torch.where(varying, torch.where(varying, variance, 1.0).sqrt(), 1.0)


def varies(mean: Tensor, variance: Tensor) -> Tensor:
    r"""Return whether windows vary by more than the rounding error of a constant.

    Arguments:
        mean: The windows' means.
        variance: The windows' variances, of the same shape.

    Returns:
        Whether they vary, of the same shape.
    """
    return variance > FLAT * mean.square() + 1e-30


def fill_missing(x: Tensor, covariance: Tensor) -> Tensor:
    r"""Fill missing cells with their conditional mean given the channels observed at the same step.

    .. math:: \hat x_m = \Sigma_{mo} \Sigma_{oo}^{-1} x_o

    Arguments:
        x: Centred rows, with shape :math:`(*, D)`. NaN marks a missing cell.
        covariance: The covariance :math:`\Sigma` of the channels, with shape :math:`(D, D)`.

    Returns:
        The rows without NaN; 0, the mean, where no channel is observed. Observed cells are unchanged.
    """
    missing = x.isnan()
    if not missing.any():
        return x
    channels = x.shape[-1]
    filled = torch.where(missing, 0.0, x)
    incomplete = missing.any(-1) & ~missing.all(-1)  # (*)
    rows, rows_missing = filled[incomplete], missing[incomplete]  # (R, D)
    means = []
    # Missing channels get unit variance and zero covariance, so that one batched solve serves every pattern.
    for part in slices(len(rows), channels**2, 2**22):
        chunk, chunk_missing = rows[part], rows_missing[part]
        observed = (~chunk_missing).to(x.dtype)
        system = covariance * observed[:, :, None] * observed[:, None, :] + torch.diag_embed(1 - observed)
        weights = torch.linalg.solve(system, chunk)  # (r, D), zero for missing channels
        means.append(torch.where(chunk_missing, weights @ covariance, chunk))
    if means:
        filled = filled.clone()
        filled[incomplete] = torch.cat(means)
    return filled
