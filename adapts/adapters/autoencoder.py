r"""Autoencoder adapters: linear maps with a nonlinear residual network in each direction."""

from __future__ import annotations

__all__ = ["Autoencoder", "count_weights", "perceptron"]

from itertools import pairwise

import torch
from torch import Tensor, nn

from .. import checks
from .base import DEEPEST, WIDEST, Normalised, State, register
from .projection import check_latent_channels, check_reduction, principal_directions

#: Activations by name.
ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}


@register("autoencoder")
class Autoencoder(Normalised):
    r"""Mixes channels step by step by networks: :math:`z_t = x_t P + g(x_t)`, :math:`y_t = z_t P^\top + h(z_t)`.

    :math:`P` is the identity where :math:`K = D`, otherwise the leading principal directions of the train rows. The
    last layers of the perceptrons :math:`g` and :math:`h` start at zero, so that training starts from the frozen model
    itself (or its PCA adapter). Training runs through the frozen model and uses no reconstruction loss.

    Deterministic; any context length; not invertible. Costs :math:`K` passes of the frozen model. It does not improve
    on a linear adapter in general: on few windows the additional weights overfit.

    References:
        | AdaPTS (Benechehab et al., 2025), its autoencoders, here without dropout
        | https://arxiv.org/abs/2502.10235

    Arguments:
        latent_channels: The number of latent channels :math:`K`; as many as observed if None.
        hidden: The width of each hidden layer.
        depth: The number of hidden layers.
        activation: The activation after each hidden layer: `"gelu"`, `"relu"`, `"silu"` or `"tanh"`.

    Example:
        >>> z, state = Autoencoder(latent_channels=3).build(channels=7).encode(torch.randn(32, 512, 7))
        >>> z.shape
        torch.Size([1, 32, 512, 3])
    """

    latent_channels: int | None = None
    hidden: int = 64
    depth: int = 1
    activation: str = "gelu"

    directions: Tensor

    def _check(self) -> None:
        super()._check()
        check_latent_channels(self, self.latent_channels)
        checks.integer("Autoencoder expects hidden", self.hidden, most=WIDEST)
        checks.integer("Autoencoder expects depth", self.depth, most=DEEPEST)
        checks.choice("activation", self.activation, ACTIVATIONS)

    @property
    def latents(self) -> int:
        return self.latent_channels or self.channels

    def _count_weights(self, channels: int) -> int:
        return 2 * count_weights([channels, *[self.hidden] * self.depth, channels])

    def _build(self, channels: int) -> None:
        check_reduction(self, self.latents, channels)
        self.register_buffer("directions", torch.eye(channels, dtype=torch.float32)[:, : self.latents].contiguous())
        widths = [self.hidden] * self.depth
        self.encoder = perceptron([channels, *widths, self.latents], self.activation)
        self.decoder = perceptron([self.latents, *widths, channels], self.activation)

    def _prepare(self, rows: Tensor) -> None:
        if self.latents < self.channels:
            self.directions.copy_(principal_directions(rows, self.latents))

    def _encode(self, x: Tensor, state: State) -> Tensor:
        correction: Tensor = self.encoder(x)
        return x @ self.directions + correction

    def _decode(self, z: Tensor, state: State) -> Tensor:
        correction: Tensor = self.decoder(z)
        return z @ self.directions.mT + correction


def count_weights(widths: list[int]) -> int:
    r"""Count the weights of a multi-layer perceptron.

    Arguments:
        widths: As for `perceptron`.

    Returns:
        The number of weights.
    """
    return sum((before + 1) * after for before, after in pairwise(widths))


def perceptron(widths: list[int], activation: str = "gelu") -> nn.Sequential:
    r"""Create a multi-layer perceptron whose last layer is zero, so that its initial output is zero.

    Arguments:
        widths: The number of inputs, the widths of the hidden layers, and the number of outputs.
        activation: The activation after each hidden layer; see `ACTIVATIONS`.

    Returns:
        The network, which acts on the last axis.
    """
    layers: list[nn.Module] = []
    for before, after in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(before, after, dtype=torch.float32), ACTIVATIONS[activation]()]
    last = layers[-2]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers[:-1])
