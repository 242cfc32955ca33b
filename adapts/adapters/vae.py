r"""Variational autoencoders over channels."""

from __future__ import annotations

__all__ = ["VAE"]

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal, StudentT

from .. import checks
from .autoencoder import count_weights, perceptron
from .base import DEEPEST, WIDEST, Normalised, State, fill_missing, register, varies, window_moments
from .capabilities import Capabilities
from .projection import check_latent_channels, check_reduction, principal_directions

#: The minimum noise, relative to a channel's standard deviation in the train rows.
LEAST_NOISE = 0.03
#: The number of last steps whose movements predict the noise, where it depends on the window.
RECENT = 12


@register("vae")
class VAE(Normalised):
    r"""Encodes each step to a normal distribution over latent channels, and decodes forecasts of its draws.

    .. math:: q(z_t | x_t) = \mathcal N\bigl(x_t P + \mu(x_t), \mathrm{diag}\, s(x_t)^2\bigr), \quad
        y_t = z_t P^\top + \psi(z_t)

    where :math:`P` is the identity or the leading principal directions, as in `Linear`, and :math:`\mu`, :math:`\log
    s` and :math:`\psi` are linear (`depth=0`) or MLPs. They start at zero and :math:`s` at `latent_scale`, so that
    training starts near the frozen model. The objective `"elbo"` maximises

    .. math:: E_{q(Z|X)}[\log p(Y | X, f(Z))] - \beta \, KL\bigl(q(Z|X) \| \mathcal N(0, I)\bigr)

    with sums over all cells and the divergence in closed form. At :math:`\beta = 1` it is the evidence lower bound
    (Prop. 4.1 of AdaPTS). As a window has :math:`L K` latent cells against :math:`H D` targets, the divergence then
    dominates and drowns the channels in noise; a smaller :math:`\beta` is better.

    Stochastic: each draw has its own latent channels and costs :math:`K` passes of the frozen model; any context
    length; not invertible. The draws are not the whole predictive distribution: they express the encoder's
    uncertainty. The noise of the likelihood is the remainder, which `Adapter` measures again out of sample.

    References:
        | Auto-Encoding Variational Bayes (Kingma & Welling, 2014), https://arxiv.org/abs/1312.6114
        | beta-VAE (Higgins et al., 2017), https://openreview.net/forum?id=Sy2fzU9gl
        | AdaPTS (Benechehab et al., 2025), the VAE adapters, https://arxiv.org/abs/2502.10235

    Arguments:
        latent_channels: The number of latent channels :math:`K`; as many as observed if None.
        depth: The number of hidden layers of encoder and decoder; 0 makes both linear.
        hidden: The width of a hidden layer.
        beta: The weight of the divergence in the objective `"elbo"`.
        latent_scale: The initial standard deviation of latent draws, where a window's own is 1. At 0, with `beta=0`,
            nothing is drawn: the family is then deterministic, a linear adapter or an autoencoder.
        noise: The distribution of the targets about the decoded forecast: `"gaussian"` or `"student-t"`.
        noise_scale: The noise scale, in units of the window's. `"learned"`: one per channel. `"fixed"`: `sigma`.
            `"input"`: a function of the encoded window's last value and movements, also used for the forecast noise.
        sigma: The initial noise scale.
        freedom: The degrees of freedom of the Student-t distribution, above 2; learned per channel if None.

    Example:
        >>> vae = VAE(latent_channels=3).build(channels=7).eval()
        >>> z, state = vae.encode(torch.randn(32, 96, 7), draws=20)
        >>> z.shape, vae.divergence(state).shape
        (torch.Size([20, 32, 96, 3]), torch.Size([32]))
    """

    objective = "elbo"

    latent_channels: int | None = None
    depth: int = 0
    hidden: int = 128
    beta: float = 1e-3
    latent_scale: float = 0.05
    noise: str = "gaussian"
    noise_scale: str = "learned"
    sigma: float = 1.0
    freedom: float | None = 5.0

    directions: Tensor
    log_sigma: Tensor

    def _check(self) -> None:
        super()._check()
        check_latent_channels(self, self.latent_channels)
        checks.integer("VAE expects depth", self.depth, least=0, most=DEEPEST)
        checks.integer("VAE expects hidden", self.hidden, most=WIDEST)
        for name in ("beta", "latent_scale"):
            kind = "0 or a number from 1e-6 to 1e6"
            checks.number(f"VAE expects {name}", getattr(self, name), kind, lambda x: x == 0 or 1e-6 <= x <= 1e6)
        if self.latent_scale == 0 and self.beta > 0:
            raise ValueError(
                f"VAE with latent_scale=0 has an infinite divergence and expects beta=0, got "
                f"beta={self.beta!r}: pass beta=0, or a positive latent_scale"
            )
        checks.number("VAE expects sigma", self.sigma, "a positive number from 1e-6 to 1e6", lambda x: 1e-6 <= x <= 1e6)
        checks.choice("noise of VAE", self.noise, ["gaussian", "student-t"])
        checks.choice("noise scale of VAE", self.noise_scale, ["learned", "fixed", "input"])
        kind = "a number above 2 and at most 1e6"
        checks.number("VAE expects freedom", self.freedom, kind, lambda x: 2 < x <= 1e6, none=True)

    @property
    def latents(self) -> int:
        return self.latent_channels or self.channels

    @property
    def capabilities(self) -> Capabilities:
        return replace(
            super().capabilities,
            stochastic=self.latent_scale > 0,
            stochastic_latents=self.latent_scale > 0,
            unbounded=("log_latent_scale",),
            of_likelihood=("log_sigma", "noise_head.", "log_freedom"),
        )

    def _count_weights(self, channels: int) -> int:
        return 2 * count_weights([channels, *[self.hidden] * self.depth, 2 * channels])

    def _build(self, channels: int) -> None:
        check_reduction(self, self.latents, channels)
        self.register_buffer("directions", torch.eye(channels, dtype=torch.float32)[:, : self.latents].contiguous())
        self.encoder = _network(channels, 2 * self.latents, self.hidden, self.depth)
        self.decoder = _network(self.latents, channels, self.hidden, self.depth)
        start = math.log(self.latent_scale) if self.capabilities.stochastic else -math.inf
        self.log_latent_scale = nn.Parameter(
            torch.full((self.latents,), start, dtype=torch.float32), requires_grad=self.capabilities.stochastic
        )
        self.log_sigma = nn.Parameter(
            torch.full((channels,), math.log(self.sigma), dtype=torch.float32),
            requires_grad=self.noise_scale != "fixed",
        )
        if self.noise_scale == "input":
            self.noise_head = _network(3 * self.latents, channels, 1, 0)
        if self.noise == "student-t" and self.freedom is None:
            self.log_freedom = nn.Parameter(torch.full((channels,), math.log(3.0), dtype=torch.float32))

    def _prepare(self, rows: Tensor) -> None:
        if self.latents < self.channels:
            self.directions.copy_(principal_directions(rows, self.latents))

    # ------------------------------------------------------------------ latent distribution

    def _draw(self, state: State) -> None:
        copies = len(state.past) if self.training else 1
        device = state.past.device if state.generator is None else state.generator.device
        shape = state.draws, copies, state.past.shape[1], self.latents  # (M, B or 1, L, K)
        state.drawn["noise"] = torch.randn(shape, generator=state.generator, device=device, dtype=torch.float32).to(
            state.past
        )

    def _posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return mean and log standard deviation of the latents of rows :math:`(B, L, D)`."""
        shift, log_scale = self.encoder(x).chunk(2, -1)
        return x @ self.directions + shift, (log_scale + self.log_latent_scale).clamp(max=3.0)

    def _encode(self, x: Tensor, state: State) -> Tensor:
        mean, log_scale = self._posterior(x)
        state.drawn["mean"], state.drawn["log_scale"] = mean, log_scale  # (B, L, K)
        return mean + log_scale.exp() * state.drawn["noise"]

    def encode_future(self, y: Tensor, state: State) -> Tensor:
        r"""Map observed targets to the means of their latent distribution; see `AdapterModule.encode_future`.

        Arguments:
            y: The standardised targets, with shape :math:`(B, H, D)`. NaN marks a missing step.
            state: The state of these windows.

        Returns:
            The means, with shape :math:`(B, H, K)`; NaN at steps where a channel is missing.
        """
        return self._posterior((y - state.location) / state.scale)[0]

    def divergence(self, state: State) -> Tensor:
        if not self.capabilities.stochastic:  # infinite, but its weight is zero
            return super().divergence(state)
        mean, log_scale = state.drawn["mean"], state.drawn["log_scale"]
        return (0.5 * (mean.square() + torch.expm1(2 * log_scale)) - log_scale).sum((-2, -1))

    def _decode(self, z: Tensor, state: State) -> Tensor:
        decoded: Tensor = z @ self.directions.mT + self.decoder(z)
        return decoded

    # ------------------------------------------------------------------ distribution of the targets

    def likelihood(self, prediction: Tensor, state: State) -> Distribution:
        sigma = self._sigma(state.drawn["mean"]) * state.scale  # (B, 1, D)
        sigma = (sigma.square() + LEAST_NOISE**2).sqrt()
        if self.noise == "gaussian":
            return Normal(prediction, sigma, validate_args=False)
        freedom = 2 + self.log_freedom.exp() if self.freedom is None else self.freedom
        return StudentT(freedom, prediction, sigma, validate_args=False)

    def reference_variance(self, past: Tensor) -> Tensor:
        if self.noise_scale != "input":
            return super().reference_variance(past)
        location, scale = self.location_scale(past)
        mean = self._posterior(fill_missing((past - location) / scale, self.covariance))[0]
        variance = (self._sigma(mean) * scale).square()  # (B, 1, D)
        return torch.where(varies(*window_moments(past)), variance, 0.0)[:, 0]

    def _sigma(self, mean: Tensor) -> Tensor:
        r"""Return the noise scale in units of the windows', :math:`(B, 1, D)`, given latent means :math:`(B, L, K)`."""
        log_sigma = self.log_sigma
        if self.noise_scale == "input":
            movements = mean.diff(dim=1, prepend=mean[:, :1]).abs()  # (B, L, K)
            whole, recent = movements.mean(1), movements[:, -RECENT:].mean(1)  # (B, K)
            whole, recent = (whole + 1e-3).log(), (recent + 1e-3).log()
            features = [mean[:, -1], whole, recent - whole]
            log_sigma = log_sigma + self.noise_head(torch.cat(features, -1)).unsqueeze(1)  # (B, 1, D)
        return log_sigma.clamp(-7.0, 3.0).exp().expand(len(mean), 1, -1)


def _network(inputs: int, outputs: int, hidden: int, depth: int) -> nn.Module:
    r"""Create a network with zero initial output; without hidden layers, a matrix without offset."""
    if depth:
        return perceptron([inputs, *[hidden] * depth, outputs])
    matrix = nn.Linear(inputs, outputs, bias=False, dtype=torch.float32)
    nn.init.zeros_(matrix.weight)
    return matrix
