r"""Adapter families, one per file, and their registry."""

from .attention import CrossChannelAttention
from .autoencoder import Autoencoder
from .base import AdapterModule, RegressionData, State, families, make, register
from .bayesian import Bayesian
from .context_linear import ContextLinear
from .dropout import Dropout
from .ensemble import Ensemble
from .flow import Flow
from .further import FurtherModel
from .identity import Identity
from .linear import Linear
from .portfolio import Portfolio
from .projection import Projection
from .residual import Residual
from .vae import VAE
from .vector_autoregression import VectorAutoregression
from .weave import Weave

__all__ = [
    "VAE",
    "AdapterModule",
    "Autoencoder",
    "Bayesian",
    "ContextLinear",
    "CrossChannelAttention",
    "Dropout",
    "Ensemble",
    "RegressionData",
    "Flow",
    "FurtherModel",
    "Identity",
    "Linear",
    "Portfolio",
    "Projection",
    "Residual",
    "State",
    "VectorAutoregression",
    "Weave",
    "families",
    "make",
    "register",
]
