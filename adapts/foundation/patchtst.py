r"""PatchTST, as Transformers holds it: a backbone whose forecasting head is trained for the series at hand."""

from __future__ import annotations

__all__ = ["PatchTST", "from_directory", "from_live"]

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PatchTSTConfig as TransformersConfig
from transformers import PatchTSTForPrediction, PatchTSTForPretraining, PatchTSTModel

from .._logging import quiet
from .._random import seeded
from ..errors import reading
from .base import FoundationModel
from .chronos import GuardedInstanceNorm
from .folders import ATTENTION, REMEDY, PatchTSTConfig, checked, named, read_config, require_sound

#: The levels of the head.
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class PatchTST(FoundationModel):
    r"""A frozen PatchTST backbone (Nie et al., 2023) with a linear head of quantiles, untrained.

    Differentiable; any horizon; scale and shift of a series carry over. PatchTST is pretrained by filling in patches,
    and whatever head it has forecasts points for the series it was trained on: that head is left out. Ours maps the
    features of all patches to quantiles in units of the window's location and scale. As it comes it knows nothing else
    (a normal law of the window); `Adapter.fit` trains it first. Missing steps are read as the window's location, and
    so are those that a context is short of.

    References:
        | A Time Series is Worth 64 Words: Long-term Forecasting with Transformers (Nie et al., 2023)
        | https://arxiv.org/abs/2211.14730

    Arguments:
        model: The backbone, for one channel or with an embedding that all channels share. A copy is taken.
        prediction_length: The number of steps that the head forecasts at a time.
        name: The checkpoint's name.
        version: The checkpoint's version.

    Raises:
        ValueError: If the backbone mixes channels, or has an embedding for each.
    """

    def __init__(self, model: PatchTSTModel, *, prediction_length: int, name: str, version: str = "unknown") -> None:
        config = model.config
        if config.channel_attention or (config.num_input_channels > 1 and not config.share_embedding):
            raise ValueError(
                f"{name} is a PatchTST that treats its {config.num_input_channels} channels differently: expected one "
                "for series alone (share_embedding=True, channel_attention=False)"
            )
        patches = model.patchifier.num_patches
        super().__init__(
            name=name, version=version, quantile_levels=LEVELS, context_length=config.context_length,
            prediction_length=prediction_length,
            step_bytes=-(-4 * patches * (3 * config.d_model + 2 * config.ffn_dim) // config.context_length),
        )  # fmt: skip
        self.model = copy.deepcopy(model).float()  # type: ignore[no-untyped-call]
        self.model.scaler = _AsItIs()
        self.model.do_mask_input, self.model.masking = False, nn.Identity()
        # With a shared embedding the channels differ in nothing but their number, which is checked.
        self.model.encoder.embedder.num_input_channels = 1
        self.model.encoder.positional_encoder.num_input_channels = 1
        self.norm = GuardedInstanceNorm()
        features = (patches + bool(config.use_cls_token)) * config.d_model
        with seeded(0):  # zeroed below, and the caller's generator stays where it was
            self.head = nn.Linear(features, len(LEVELS) * prediction_length, dtype=torch.float32)
        nn.init.zeros_(self.head.weight)
        law = torch.special.ndtri(torch.tensor(LEVELS, dtype=torch.float64)).float()
        with torch.no_grad():
            self.head.bias.copy_(law.repeat_interleave(prediction_length))
        self.freeze()

    def untrained_head(self) -> nn.Module:
        return self.head

    def _forecast(self, context: Tensor) -> Tensor:
        standard, (location, scale) = self.norm(context)
        values = torch.where(standard.isnan(), 0.0, standard)
        values = nn.functional.pad(values, (self.context_length - values.shape[-1], 0))
        hidden = self.model(past_values=values.unsqueeze(-1)).last_hidden_state  # (N, 1, patches, d_model)
        quantiles: Tensor = self.head(hidden.flatten(1)).unflatten(1, (len(LEVELS), -1))  # (N, Q, P)
        forecast: Tensor = location.unsqueeze(1) + scale.unsqueeze(1) * quantiles
        return forecast


class _AsItIs(nn.Module):
    r"""In place of PatchTST's scaler, whose gradient is lost on constant rows: the values come standardised."""

    def forward(self, values: Tensor, observed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r"""Returns the values as they are.

        Arguments:
            values: The values, with shape :math:`(N, L, 1)`.
            observed: Disregarded.

        Returns:
            The values, location 0 and scale 1.
        """
        return values, values.new_zeros(()), values.new_ones(())


def from_directory(path: Path, *, name: str | None = None, version: str | None = None) -> PatchTST:
    r"""Loads the backbone of a PatchTST checkpoint, `config.json` and safetensors weights.

    Arguments:
        path: The checkpoint's directory. A `card.json` in it may hold its `name` and `version`.
        name: The name to give it; that of the card, or of the directory, if None.
        version: The version to give it; that of the card if None.

    Returns:
        The frozen model, on the CPU.

    Raises:
        ValueError: If the directory does not hold a whole backbone.
    """
    options = checked(PatchTSTConfig, read_config(path), path)
    own = named(path)
    with (
        reading(f"the checkpoint in '{path}' cannot be read", REMEDY),
        quiet(),
        seeded(0),
    ):
        loaded: Any = PatchTSTModel.from_pretrained(
            path, config=TransformersConfig(**options), dtype=torch.float32, use_safetensors=True,
            local_files_only=True, attn_implementation=ATTENTION, output_loading_info=True,
            ignore_mismatched_sizes=True,
        )  # fmt: skip
    model, info = loaded
    require_sound(model, info, path)
    return PatchTST(
        model, prediction_length=model.config.prediction_length, name=name or own[0], version=version or own[1]
    )


def from_live(model: object) -> PatchTST | None:
    r"""Wraps a copy of a live PatchTST of Transformers'.

    Arguments:
        model: A `PatchTSTModel`, or one for pretraining or prediction, of which the backbone is taken.

    Returns:
        The frozen model; None if `model` is no PatchTST.
    """
    if isinstance(model, PatchTSTForPretraining | PatchTSTForPrediction):
        model = model.model
    if not isinstance(model, PatchTSTModel):
        return None
    name = Path(str(getattr(model, "name_or_path", "")) or type(model).__name__).name
    return PatchTST(model, prediction_length=model.config.prediction_length, name=name)
