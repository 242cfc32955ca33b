r"""The original Chronos (T5), which draws sample paths token by token: forward only."""

from __future__ import annotations

__all__ = ["ChronosT5", "from_directory", "from_live"]

import copy
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from chronos import ChronosConfig, ChronosModel, ChronosPipeline
from pydantic import Field, model_validator
from torch import Tensor
from transformers import T5Config, T5ForConditionalGeneration

from ..errors import shown
from ..persistence.schemas import Strict
from .base import FoundationModel
from .chronos import bytes_per_patch, name_of
from .folders import Checkpoint, Layers, Rate, Size, Small, Steps, checked, identity, pretrained, read_config

#: The levels of the quantiles of the sample paths.
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class ChronosT5(FoundationModel):
    r"""Frozen Chronos (Ansari et al., 2024): a T5 that reads and writes the bins of a series divided by its mean size.

    Forward only: the bins are tokens, which cut the gradient to all but the scale of a series. A gradient would be
    finite, non-zero and wrong. Any horizon; equivariant to scale, not to shift; the model itself handles NaN.

    The quantiles are those of sample paths, as in `ChronosPipeline.predict_quantiles`, with the checkpoint's
    temperature, top-k and top-p. Each token is the inverse distribution function at a level that depends only on step
    and path; the levels of a step are stratified. So forecasts are repeatable, no series depends on others in its
    batch, and the global generator does not advance. They equal what the pipeline draws in law, not number by number.

    Code Apache-2.0; the licence of the weights is that of their repository.

    References:
        | Chronos: Learning the Language of Time Series (Ansari et al., 2024)
        | https://arxiv.org/abs/2403.07815

    Arguments:
        model: The model of a `ChronosPipeline`. It is copied.
        name: The checkpoint's name.
        version: The checkpoint's version.
        num_samples: The number of sample paths; that of the checkpoint if None.

    Raises:
        ValueError: If the model is a decoder without encoder, or `num_samples` is below 2.
    """

    kind: ClassVar[Literal["quantiles", "samples", "point"]] = "samples"
    uniforms: Tensor

    def __init__(
        self, model: ChronosModel, *, name: str, version: str = "unknown", num_samples: int | None = None
    ) -> None:
        settings: Any = model.config
        if settings.model_type != "seq2seq":
            raise ValueError(
                f"{name} is a Chronos of type {shown(settings.model_type)}: expected one with encoder and decoder "
                "('seq2seq'), such as amazon/chronos-t5-small"
            )
        paths = settings.num_samples if num_samples is None else num_samples
        if paths < 2:
            raise ValueError(f"expected num_samples to be at least 2, got {shown(paths)}: pass None for the default")
        inner: Any = model.model.config
        kept = 2 * inner.num_decoder_layers * inner.num_heads * inner.d_kv + inner.d_model  # of a step, for each path
        super().__init__(
            name=name, version=version, quantile_levels=LEVELS, context_length=settings.context_length,
            prediction_length=settings.prediction_length, differentiable=False,
            step_bytes=bytes_per_patch(inner) + 4 * paths * kept,
        )  # fmt: skip
        self.settings, self.tokenizer = settings, settings.create_tokenizer()
        self.model = copy.deepcopy(model.model).float()
        generator = torch.Generator().manual_seed(0)
        shape = (settings.prediction_length, paths)
        strata = torch.rand(shape, generator=generator).argsort(1)  # (P, S)
        levels = (strata + torch.rand(shape, generator=generator)) / paths
        self.register_buffer("uniforms", levels.clamp(max=1 - 2**-20))  # rounding may give 1, beyond the last token
        self.freeze()

    @torch.no_grad()
    def _forecast(self, context: Tensor) -> Tensor:
        tokens, observed, scale = self.tokenizer.context_input_transform(context.cpu().contiguous())
        drawn = self._paths(tokens.to(context.device), observed.to(context.device))  # (N, S, P)
        values = self.tokenizer.output_transform(drawn.cpu(), scale)
        levels = torch.tensor(self.quantile_levels, dtype=values.dtype)
        quantiles: Tensor = values.quantile(levels, dim=1).movedim(0, 1)  # (N, Q, P)
        return quantiles.to(context.device)

    def _paths(self, tokens: Tensor, observed: Tensor) -> Tensor:
        r"""Draw the tokens (N, S, P) that follow tokens (N, L), of which some are observed."""
        rows, paths = len(tokens), self.uniforms.shape[1]
        hidden = self.model.encoder(input_ids=tokens, attention_mask=observed).last_hidden_state
        hidden, observed = hidden.repeat_interleave(paths, 0), observed.repeat_interleave(paths, 0)
        last = tokens.new_full((rows * paths, 1), self.model.config.decoder_start_token_id or 0)
        drawn, cache = [], None
        for uniforms in self.uniforms:
            output: Any = self.model(
                encoder_outputs=(hidden,), attention_mask=observed, decoder_input_ids=last, past_key_values=cache,
                use_cache=True,
            )  # fmt: skip
            cache = output.past_key_values
            last = self._draw(output.logits[:, -1], uniforms.repeat(rows)).unsqueeze(1)
            drawn.append(last)
        tokens = torch.cat(drawn, 1).unflatten(0, (rows, paths))
        return tokens

    def _draw(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        r"""Return the tokens (n,) at levels (n,) of the distributions with logits (n, V)."""
        logits = logits.float() / self.settings.temperature
        logits[:, self.settings.eos_token_id] = -torch.inf  # a path does not end before the horizon
        if 0 < self.settings.top_k < logits.shape[1]:
            least = logits.topk(self.settings.top_k).values[:, -1:]
            logits = torch.where(logits < least, -torch.inf, logits)
        probabilities = logits.softmax(-1).double()
        if self.settings.top_p < 1:
            ordered, order = probabilities.sort(descending=True)
            kept = ordered.cumsum(-1) - ordered < self.settings.top_p
            probabilities = torch.zeros_like(probabilities).scatter(1, order, torch.where(kept, ordered, 0.0))
        total = probabilities.cumsum(-1)
        tokens = torch.searchsorted(total, uniforms.double().unsqueeze(1) * total[:, -1:], right=True)
        return tokens.squeeze(1)


class Bins(Strict):
    r"""Range of the bins within the config."""

    low_limit: Annotated[float, Field(ge=-1e6, le=0)]
    high_limit: Annotated[float, Field(ge=0, le=1e6)]


class Settings(Strict):
    r"""Chronos settings within a T5 config."""

    tokenizer_class: Literal["MeanScaleUniformBins"]
    tokenizer_kwargs: Bins
    context_length: Steps
    prediction_length: Size
    n_tokens: Annotated[int, Field(ge=8, le=2**20)]
    n_special_tokens: Annotated[int, Field(ge=2, le=1000)]
    pad_token_id: Annotated[int, Field(ge=0, le=999)]
    eos_token_id: Annotated[int, Field(ge=0, le=999)]
    use_eos_token: bool
    model_type: Literal["seq2seq"]
    num_samples: Annotated[int, Field(ge=2, le=10_000)]
    temperature: Annotated[float, Field(gt=0, le=100)]
    top_k: Annotated[int, Field(ge=0, le=2**20)]
    top_p: Annotated[float, Field(gt=0, le=1)]


class Config(Checkpoint):
    r"""Config of a Chronos (T5) checkpoint."""

    chronos_pipeline_class: Literal["ChronosPipeline"] = "ChronosPipeline"
    chronos_config: Settings
    d_model: Size = 512
    d_kv: Size = 64
    d_ff: Size = 2048
    num_layers: Layers = 6
    num_decoder_layers: Layers | None = None
    num_heads: Size = 8
    relative_attention_num_buckets: Annotated[int, Field(ge=4, le=2**16)] = 32
    relative_attention_max_distance: Steps = 128
    dropout_rate: Rate = 0.1
    layer_norm_epsilon: Small = 1e-6
    initializer_factor: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    feed_forward_proj: Literal["relu", "gelu", "gelu_new", "silu", "gated-gelu", "gated-relu", "gated-silu"] = "relu"
    vocab_size: Annotated[int, Field(ge=8, le=2**20)] = 32128
    tie_word_embeddings: bool = True  # if False, Transformers does not scale the decoder's output, and that is all
    scale_decoder_outputs: bool = True  # how Transformers 5 saves the same
    decoder_start_token_id: Literal[0] = 0
    pad_token_id: Literal[0] = 0
    eos_token_id: Literal[1] = 1

    @model_validator(mode="after")
    def _agrees(self) -> Config:
        if self.vocab_size < self.chronos_config.n_tokens:
            raise ValueError("should have a vocab_size of at least chronos_config.n_tokens")
        if (
            max(self.chronos_config.pad_token_id, self.chronos_config.eos_token_id)
            >= self.chronos_config.n_special_tokens
        ):
            raise ValueError("should have special tokens below chronos_config.n_special_tokens")
        return self

    def numbers(self) -> int:
        inner = self.num_heads * self.d_kv
        layers = self.num_layers + 2 * (self.num_decoder_layers or self.num_layers)
        return 4 * layers * self.d_model * inner + 2 * self.num_layers * self.d_model * self.d_ff


def from_directory(path: Path, *, name: str | None = None, version: str | None = None) -> ChronosT5:
    r"""Load a Chronos (T5) checkpoint, `config.json` and safetensors weights.

    Arguments:
        path: The checkpoint's directory. An optional `card.json` in it gives its `name` and `version`.
        name: The model's name; if None, that of the card or the directory.
        version: The model's version; if None, that of the card.

    Returns:
        The frozen model, on the CPU.

    Raises:
        ValueError: If the directory does not hold a complete Chronos (T5) checkpoint.
    """
    options = checked(Config, read_config(path), path)
    inner = pretrained(T5ForConditionalGeneration, T5Config, options, path)
    model = ChronosModel(ChronosConfig(**options["chronos_config"]), inner)
    return ChronosT5(model, **identity(path, name, version))


def from_live(model: object) -> ChronosT5 | None:
    r"""Wrap a copy of an original Chronos in memory.

    Arguments:
        model: A `ChronosPipeline` or its `ChronosModel`.

    Returns:
        The frozen model; None if `model` is no original Chronos.
    """
    if isinstance(model, ChronosPipeline):
        model = model.model
    return ChronosT5(model, name=name_of(model.model)) if isinstance(model, ChronosModel) else None
