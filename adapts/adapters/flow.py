r"""Normalising flows over channels."""

from __future__ import annotations

__all__ = ["Flow"]

from functools import partial

import torch
from torch import Tensor, nn

from .. import checks
from .autoencoder import count_weights
from .base import DEEPEST, WIDEST, Normalised, State, register
from .projection import check_latent_channels, check_reduction, principal_directions

#: The minimum scale of a coupling, and the reciprocal of its maximum.
SLOPE = 0.1


@register("flow")
class Flow(Normalised):
    r"""Maps channels step by step by an invertible network: :math:`z_t = T(x_t P)`, :math:`y_t = T^{-1}(z_t) P^\top`.

    :math:`T` is a chain of affine couplings: one half of the channels determines scale and shift of the other half, and
    the halves alternate. Scale and shift are bounded, so that far outside of the training data the map is affine and
    its inverse is stable. Encoder and decoder share their weights. The couplings start as the identity, so that
    training starts from the frozen model itself.

    Deterministic; any context length; exactly invertible where :math:`K = D`. Otherwise :math:`P` holds the leading
    principal directions of the train rows, and the component outside of them is lost, as in `Projection`. Costs
    :math:`K` passes of the frozen model; the slowest family to train. A single channel gets only a gain and an offset.
    It is not a density model: training uses no likelihood and no Jacobian.

    Requires zuko: `pip install 'adapts[flow]'`.

    References:
        | AdaPTS (Benechehab et al., 2025), its RealNVP adapter, there with random initial weights
        | https://arxiv.org/abs/2502.10235
        | Density estimation using Real NVP (Dinh et al., 2017)
        | https://arxiv.org/abs/1605.08803

    Arguments:
        latent_channels: The number of latent channels :math:`K`; as many as observed if None.
        transforms: The number of couplings.
        hidden: The width of each hidden layer of the couplings' networks.
        depth: The number of these hidden layers.

    Example:
        >>> flow = Flow().build(channels=7)
        >>> x = torch.randn(32, 96, 7)
        >>> z, state = flow.encode(x)
        >>> bool(torch.allclose(flow.decode(z, state)[0], x, atol=1e-4))
        True
    """

    latent_channels: int | None = None
    transforms: int = 4
    hidden: int = 64
    depth: int = 1

    directions: Tensor

    def _check(self) -> None:
        super()._check()
        check_latent_channels(self, self.latent_channels)
        for name, most in (("transforms", DEEPEST), ("hidden", WIDEST), ("depth", DEEPEST)):
            checks.integer(f"Flow expects {name}", getattr(self, name), most=most)

    @property
    def latents(self) -> int:
        return self.latent_channels or self.channels

    def _count_weights(self, channels: int) -> int:
        return self.transforms * count_weights([channels, *[self.hidden] * self.depth, 2 * channels])

    def _build(self, channels: int) -> None:
        check_reduction(self, self.latents, channels)
        try:
            from zuko.flows.coupling import GeneralCouplingTransform
            from zuko.transforms import MonotonicAffineTransform
        except ImportError as error:
            raise ValueError("the family 'flow' needs the package zuko: pip install 'adapts[flow]'") from error
        self.register_buffer("directions", torch.eye(channels, dtype=torch.float32)[:, : self.latents].contiguous())
        self.couplings = nn.ModuleList()
        options = {} if self.latents == 1 else {"hidden_features": [self.hidden] * self.depth, "activation": nn.Tanh}
        for number in range(self.transforms):
            coupling = GeneralCouplingTransform(
                self.latents,
                mask=torch.arange(self.latents) % 2 == number % 2,
                univariate=partial(MonotonicAffineTransform, slope=SLOPE),
                **options,
            )
            # Zero shift and zero log scale: the identity.
            for parameter in (coupling.phi if self.latents == 1 else coupling.hyper[-1]).parameters():
                nn.init.zeros_(parameter)
            self.couplings.append(coupling.float())  # zuko creates its networks in PyTorch's default dtype

    def _prepare(self, rows: Tensor) -> None:
        if self.latents < self.channels:
            self.directions.copy_(principal_directions(rows, self.latents))

    def _encode(self, x: Tensor, state: State) -> Tensor:
        z = x @ self.directions
        for coupling in self.couplings:
            z = coupling()(z)
        return z

    def _decode(self, z: Tensor, state: State) -> Tensor:
        for coupling in reversed(self.couplings):
            z = coupling().inv(z)
        return z @ self.directions.mT
