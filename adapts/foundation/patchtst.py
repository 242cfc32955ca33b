r"""PatchTST of Transformers: a backbone whose forecasting head is trained on the series at hand."""

from __future__ import annotations

__all__ = ["PatchTST", "from_directory", "from_live"]

import copy
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PatchTSTConfig as TransformersConfig
from transformers import PatchTSTForPrediction, PatchTSTForPretraining, PatchTSTModel

from .base import FoundationModel
from .chronos import GuardedInstanceNorm
from .folders import PatchTSTConfig, checked, identity, pretrained, read_config
from .heads import LEVELS, QuantileHead


class PatchTST(FoundationModel):
    r"""Frozen PatchTST backbone (Nie et al., 2023) with an untrained linear quantile head.

    Differentiable; any horizon; equivariant to scale and shift of a series. PatchTST is pretrained by imputing patches.
    Any head of the checkpoint forecasts points for the series it was trained on, and is dropped. The new head maps the
    features of all patches to quantiles in units of the window's location and scale. Untrained, it forecasts a normal
    distribution with the window's location and scale; `Adapter.fit` trains it first. Missing steps are read as the
    window's location, as are steps before a short context.

    References:
        | A Time Series is Worth 64 Words: Long-term Forecasting with Transformers (Nie et al., 2023)
        | https://arxiv.org/abs/2211.14730

    Arguments:
        model: The backbone, for one channel or with an embedding shared by all channels. It is copied.
        prediction_length: The number of steps that one pass of the head forecasts.
        name: The checkpoint's name.
        version: The checkpoint's version.

    Raises:
        ValueError: If the backbone mixes channels, or has a separate embedding for each.
    """

    def __init__(self, model: PatchTSTModel, *, prediction_length: int, name: str, version: str = "unknown") -> None:
        config = model.config
        if config.channel_attention or (config.num_input_channels > 1 and not config.share_embedding):
            raise ValueError(
                f"{name} is a PatchTST that treats its {config.num_input_channels} channels differently: expected a "
                "univariate model (share_embedding=True, channel_attention=False)"
            )
        patches = model.patchifier.num_patches
        super().__init__(
            name=name, version=version, quantile_levels=LEVELS, context_length=config.context_length,
            prediction_length=prediction_length,
            step_bytes=-(-4 * patches * (3 * config.d_model + 2 * config.ffn_dim) // config.context_length),
        )  # fmt: skip
        self.model = copy.deepcopy(model).float()  # type: ignore[no-untyped-call]
        self.model.scaler = _NoScaling()
        self.model.do_mask_input, self.model.masking = False, nn.Identity()
        # With a shared embedding the channels differ only in their number, which the model checks.
        self.model.encoder.embedder.num_input_channels = 1
        self.model.encoder.positional_encoder.num_input_channels = 1
        self.norm = GuardedInstanceNorm()
        features = (patches + bool(config.use_cls_token)) * config.d_model
        self.head = QuantileHead(features, prediction_length)
        self.freeze()

    def untrained_head(self) -> nn.Module:
        return self.head

    def _forecast(self, context: Tensor) -> Tensor:
        standard, (location, scale) = self.norm(context)
        values = torch.where(standard.isnan(), 0.0, standard)
        values = nn.functional.pad(values, (self.context_length - values.shape[-1], 0))
        hidden = self.model(past_values=values.unsqueeze(-1)).last_hidden_state  # (N, 1, patches, d_model)
        quantiles: Tensor = self.head(hidden.flatten(1))  # (N, Q, P)
        forecast: Tensor = location.unsqueeze(1) + scale.unsqueeze(1) * quantiles
        return forecast


class _NoScaling(nn.Module):
    r"""Replaces PatchTST's scaler, which has no gradient for constant rows: the values are already standardised."""

    def forward(self, values: Tensor, observed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r"""Return the values unchanged.

        Arguments:
            values: The values, with shape :math:`(N, L, 1)`.
            observed: Ignored.

        Returns:
            The values, location 0 and scale 1.
        """
        return values, values.new_zeros(()), values.new_ones(())


def from_directory(path: Path, *, name: str | None = None, version: str | None = None) -> PatchTST:
    r"""Load the backbone of a PatchTST checkpoint, `config.json` and safetensors weights.

    Arguments:
        path: The checkpoint's directory. An optional `card.json` in it gives its `name` and `version`.
        name: The model's name; if None, that of the card or the directory.
        version: The model's version; if None, that of the card.

    Returns:
        The frozen model, on the CPU.

    Raises:
        ValueError: If the directory does not hold a complete backbone.
    """
    options = checked(PatchTSTConfig, read_config(path), path)
    model = pretrained(PatchTSTModel, TransformersConfig, options, path)
    return PatchTST(model, prediction_length=model.config.prediction_length, **identity(path, name, version))


def from_live(model: object) -> PatchTST | None:
    r"""Wrap a copy of a PatchTST of Transformers in memory.

    Arguments:
        model: A `PatchTSTModel`, or a model for pretraining or prediction, of which the backbone is used.

    Returns:
        The frozen model; None if `model` is not a PatchTST.
    """
    if isinstance(model, PatchTSTForPretraining | PatchTSTForPrediction):
        model = model.model
    if not isinstance(model, PatchTSTModel):
        return None
    name = Path(str(getattr(model, "name_or_path", "")) or type(model).__name__).name
    return PatchTST(model, prediction_length=model.config.prediction_length, name=name)
