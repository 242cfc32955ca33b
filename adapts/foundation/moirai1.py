r"""Moirai 1 of Salesforce: a masked transformer over patches that draws samples, used without gradients."""

from __future__ import annotations

__all__ = ["Moirai1", "from_directory", "from_live"]

import copy
import re
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from .._random import seeded
from ..errors import reading
from .base import FoundationModel
from .cures import by_leading_gap
from .folders import REMEDY, Checkpoint, Layers, Rate, Size, checked, identity, read_config
from .weights import fill

DECILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
#: The number of target steps of a pass, of paths drawn, and of context steps at most.
PREDICTION_LENGTH, SAMPLES, LONGEST = 64, 100, 4096
#: The smallest patch that the paper uses for each frequency, by its first letters as pandas names them.
PATCHES = {"Y": 8, "A": 8, "Q": 8, "M": 8, "W": 16, "D": 16, "B": 16, "h": 32, "H": 32, "min": 32, "s": 64, "S": 64}


class Component(BaseModel):
    r"""One law of the mixture, as its config names it."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, populate_by_name=True)

    target: Literal[
        "uni2ts.distribution.student_t.StudentTOutput", "uni2ts.distribution.normal.NormalOutput",
        "uni2ts.distribution.normal.NormalFixedScaleOutput", "uni2ts.distribution.log_normal.LogNormalOutput",
        "uni2ts.distribution.negative_binomial.NegativeBinomialOutput", "uni2ts.distribution.laplace.LaplaceOutput",
        "uni2ts.distribution.laplace.LaplaceFixedScaleOutput",
    ] = Field(alias="_target_")  # fmt: skip
    scale: float | None = None


class Mixture(BaseModel):
    r"""The mixture of laws, as its config names it."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, populate_by_name=True)

    target: Literal["uni2ts.distribution.mixture.MixtureOutput"] = Field(alias="_target_")
    components: Annotated[list[Component], Field(min_length=1, max_length=16)]


class Moirai1Config(Checkpoint):
    r"""Config of a Moirai 1 checkpoint: the arguments of its module. It may name laws of uni2ts only."""

    distr_output: Mixture
    d_model: Size
    num_layers: Layers
    patch_sizes: Annotated[list[Size], Field(min_length=1, max_length=16)]
    max_seq_len: Size
    attn_dropout_p: Rate = 0.0
    dropout_p: Rate = 0.0
    scaling: bool = True

    def numbers(self) -> int:
        return self.num_layers * 4 * self.d_model**2


class Moirai1(FoundationModel):
    r"""Frozen Moirai 1.0 or 1.1 (Woo et al., 2024): masked patches of the target steps, whose law is a mixture.

    Forward only, as its quantiles are those of 100 samples: no encoder can be trained before it. Any horizon; the model
    itself reads missing steps. Draws have the same seed for every series, each series by itself, so that a forecast
    depends on its context alone; this makes it slow. The patches are the shortest that the paper uses for the
    frequency of the data, and 32 steps long for data of unknown frequency.

    Code Apache-2.0 (uni2ts, which conflicts with this library's versions). The package does not state the licence of
    the weights `Salesforce/moirai-1.1-R-small`, `-base` and `-large`: see their cards.

    References:
        | Unified Training of Universal Time Series Forecasting Transformers (Woo et al., 2024)
        | https://arxiv.org/abs/2402.02592

    Arguments:
        model: A `MoiraiModule`. It is copied.
        name: The checkpoint's name.
        version: The checkpoint's version.
    """

    kind: ClassVar[Literal["quantiles", "samples", "point"]] = "samples"
    reads_missing: ClassVar[bool] = True

    def __init__(self, model: Any, *, name: str, version: str = "unknown") -> None:
        super().__init__(
            name=name, version=version, quantile_levels=DECILES, context_length=LONGEST,
            prediction_length=PREDICTION_LENGTH, differentiable=False,
        )  # fmt: skip
        self.model = copy.deepcopy(model).float()
        self._set_patch(32)
        self.freeze()

    def _set_patch(self, wanted: int) -> None:
        self.patch = min(self.model.patch_sizes, key=lambda size: abs(size - wanted))
        tokens = self.model.max_seq_len - -(-self.prediction_length // self.patch)
        self.context_length = max(self.patch, min(LONGEST, tokens * self.patch))

    def with_frequency(self, frequency: str | None, season_length: int) -> Self:
        unit = re.sub(r"^\d+", "", frequency or "")
        patch = next((PATCHES[key] for key in ("min", unit[:1]) if key in PATCHES and unit.startswith(key)), None)
        if patch is None or patch == self.patch:
            return self
        copied = copy.copy(self)
        copied._set_patch(patch)
        return copied

    @by_leading_gap
    def _forecast(self, context: Tensor) -> Tensor:
        from uni2ts.model.moirai import MoiraiForecast

        forecaster = MoiraiForecast(
            module=self.model, prediction_length=self.prediction_length, context_length=context.shape[1],
            patch_size=self.patch, num_samples=SAMPLES, target_dim=1, feat_dynamic_real_dim=0,
            past_feat_dynamic_real_dim=0,
        )  # fmt: skip
        levels, deciles = torch.tensor(DECILES, dtype=torch.float32, device=context.device), []
        for row in context.split(1):
            observed = ~row.isnan()
            with torch.no_grad(), seeded(0):
                samples = forecaster(
                    past_target=torch.where(observed, row, 0.0).unsqueeze(-1),
                    past_observed_target=observed.unsqueeze(-1), past_is_pad=torch.zeros_like(observed),
                )  # (1, S, P)  # fmt: skip
            deciles.append(torch.quantile(samples[0].float(), levels, dim=0))
        return torch.stack(deciles)  # (N, Q, P)


def from_directory(path: Path, *, name: str | None = None, version: str | None = None) -> Moirai1:
    r"""Load a Moirai 1 checkpoint, `config.json` and safetensors weights.

    Arguments:
        path: The checkpoint's directory. An optional `card.json` in it gives its `name` and `version`.
        name: The model's name; if None, that of the card or the directory.
        version: The model's version; if None, that of the card.

    Returns:
        The frozen model, on the CPU.

    Raises:
        ValueError: If the directory does not hold a complete Moirai 1.
    """
    content = read_config(path)
    options = checked(Moirai1Config, content, path)
    from uni2ts.model.moirai.module import MoiraiModule, decode_distr_output

    with reading(f"the config of '{path}' describes no model", REMEDY), seeded(0):
        law = decode_distr_output(content["distr_output"])  # of the classes that the schema permits
        sizes = {"attn_dropout_p": 0.0, "dropout_p": 0.0, **options, "patch_sizes": tuple(options["patch_sizes"])}
        model = MoiraiModule(**(sizes | {"distr_output": law}))
    fill(model, path)
    return Moirai1(model, **identity(path, name, version))


def from_live(model: object) -> Moirai1 | None:
    r"""Wrap a copy of a Moirai 1 in memory.

    Arguments:
        model: A `MoiraiModule`, or a `MoiraiForecast` that holds one.

    Returns:
        The frozen model; None if `model` is not a Moirai 1.
    """
    package: Any = sys.modules.get("uni2ts.model.moirai")
    if package is None:
        return None
    inner = model.module if isinstance(model, package.MoiraiForecast) else model
    return Moirai1(inner, name="moirai-1") if isinstance(inner, package.MoiraiModule) else None
