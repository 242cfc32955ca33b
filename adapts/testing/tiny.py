r"""Small foundation models with random weights, for tests: valid frozen models at negligible cost."""

from __future__ import annotations

__all__ = [
    "fracast_config",
    "tiny_chronos_2",
    "tiny_chronos_bolt",
    "tiny_chronos_t5",
    "tiny_fracast",
    "tiny_patchtsmixer",
    "tiny_timesfm",
]

from collections.abc import Sequence
from typing import Any, Literal

import torch

from .._random import seeded

DECILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def tiny_chronos_bolt(
    *,
    context_length: int = 64,
    prediction_length: int = 8,
    patch: int = 8,
    quantile_levels: Sequence[float] = DECILES,
    use_reg_token: bool = True,
    seed: int = 0,
) -> Any:
    r"""Create a Chronos-Bolt with about 9000 random weights.

    Arguments:
        context_length: The maximum number of context steps.
        prediction_length: The number of steps that one pass forecasts.
        patch: The number of steps per token.
        quantile_levels: The levels of the forecasts; with random weights these cross.
        use_reg_token: Whether a register token follows the patches.
        seed: The seed of the weights.

    Returns:
        The `ChronosBoltModelForForecasting`; `save_pretrained(directory)` writes its checkpoint.

    Example:
        >>> model = adapts.load_foundation_model(tiny_chronos_bolt())
        >>> model(torch.randn(2, 30), prediction_length=5).shape
        torch.Size([2, 9, 5])
    """
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from transformers import T5Config

    settings: dict[str, Any] = {
        "decoder_start_token_id": 0,
        "chronos_pipeline_class": "ChronosBoltPipeline",
        "chronos_config": {
            "context_length": context_length,
            "prediction_length": prediction_length,
            "input_patch_size": patch,
            "input_patch_stride": patch,
            "quantiles": list(quantile_levels),
            "use_reg_token": use_reg_token,
        },
    }
    config = T5Config(
        d_model=16,
        d_kv=4,
        d_ff=32,
        num_layers=1,
        num_decoder_layers=1,
        num_heads=2,
        feed_forward_proj="relu",
        vocab_size=2,
        pad_token_id=0,
        eos_token_id=1,
        is_encoder_decoder=True,
        initializer_factor=0.3,
        architectures=["ChronosBoltModelForForecasting"],
        **settings,
    )
    with seeded(seed):
        return ChronosBoltModelForForecasting(config)


def tiny_chronos_2(*, prediction_length: int = 16, seed: int = 0) -> Any:
    r"""Create a Chronos-2 with about 9000 random weights: context 64, patches of 8 steps, 11 levels.

    Arguments:
        prediction_length: The number of steps that one pass forecasts at most, a multiple of 8.
        seed: The seed of the weights.

    Returns:
        The `Chronos2Model`; `save_pretrained(directory)` writes its checkpoint.

    Example:
        >>> model = adapts.load_foundation_model(tiny_chronos_2())
        >>> model(torch.randn(2, 30), prediction_length=5).shape
        torch.Size([2, 11, 5])
    """
    from chronos import Chronos2Model
    from chronos.chronos2.config import Chronos2CoreConfig

    settings: dict[str, Any] = {
        "chronos_pipeline_class": "Chronos2Pipeline",
        "chronos_config": {
            "context_length": 64,
            "input_patch_size": 8,
            "input_patch_stride": 8,
            "output_patch_size": 8,
            "max_output_patches": prediction_length // 8,
            "quantiles": [0.05, *DECILES, 0.95],
            "use_arcsinh": True,
            "use_reg_token": True,
        },
    }
    config = Chronos2CoreConfig(
        d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=2, initializer_factor=0.3,
        architectures=["Chronos2Model"], **settings,
    )  # fmt: skip
    with seeded(seed):
        return Chronos2Model(config)


def tiny_chronos_t5(*, top_k: int = 50, top_p: float = 1.0, num_samples: int = 20, seed: int = 0) -> Any:
    r"""Create an original Chronos with about 5000 random weights: context 64, 8 steps a pass, 62 bins.

    Arguments:
        top_k: The number of most probable tokens that are drawn from.
        top_p: The probability of the most probable tokens that are drawn from.
        num_samples: The number of sample paths.
        seed: The seed of the weights.

    Returns:
        The `ChronosPipeline`; `inner_model.save_pretrained(directory)` writes its checkpoint.

    Example:
        >>> model = adapts.load_foundation_model(tiny_chronos_t5())
        >>> model(torch.randn(2, 30), prediction_length=5).shape
        torch.Size([2, 9, 5])
    """
    from chronos import ChronosConfig, ChronosModel, ChronosPipeline
    from transformers import T5Config, T5ForConditionalGeneration

    settings: dict[str, Any] = {
        "tokenizer_class": "MeanScaleUniformBins",
        "tokenizer_kwargs": {"low_limit": -6.0, "high_limit": 6.0},
        "context_length": 64,
        "prediction_length": 8,
        "n_tokens": 64,
        "n_special_tokens": 2,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "use_eos_token": True,
        "model_type": "seq2seq",
        "num_samples": num_samples,
        "temperature": 1.0,
        "top_k": top_k,
        "top_p": top_p,
    }
    own: dict[str, Any] = {"chronos_config": settings, "decoder_start_token_id": 0}
    config = T5Config(
        d_model=16, d_kv=4, d_ff=32, num_layers=1, num_decoder_layers=1, num_heads=2, vocab_size=64, pad_token_id=0,
        eos_token_id=1, initializer_factor=1.0, architectures=["T5ForConditionalGeneration"], **own,
    )  # fmt: skip
    with seeded(seed):
        inner: Any = T5ForConditionalGeneration(config)
    chronos_config = ChronosConfig(**settings)
    return ChronosPipeline(chronos_config.create_tokenizer(), ChronosModel(chronos_config, inner.eval()))


def tiny_timesfm(version: Literal["2.0", "2.5"] = "2.5", *, seed: int = 0) -> Any:
    r"""Create a TimesFM of Transformers with about 7000 random weights: context 64, patches and passes of 8 steps.

    Arguments:
        version: Which of both architectures.
        seed: The seed of the weights.

    Returns:
        The model; `save_pretrained(directory)` writes its checkpoint.

    Example:
        >>> model = adapts.load_foundation_model(tiny_timesfm("2.0"))
        >>> model(torch.randn(2, 30), prediction_length=5).shape
        torch.Size([2, 9, 5])
    """
    from transformers import TimesFm2_5Config, TimesFm2_5ModelForPrediction, TimesFmConfig, TimesFmModelForPrediction

    sizes: dict[str, Any] = {
        "context_length": 64, "horizon_length": 8, "patch_length": 8, "hidden_size": 16, "intermediate_size": 16,
        "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "initializer_range": 0.1,
    }  # fmt: skip
    model: Any
    with seeded(seed):
        if version == "2.0":
            model = TimesFmModelForPrediction(TimesFmConfig(**sizes))
        else:
            config = TimesFm2_5Config(num_key_value_heads=2, output_quantile_len=8, **sizes)
            model = TimesFm2_5ModelForPrediction(config)
    return model.eval()


def tiny_patchtsmixer(*, seed: int = 0) -> Any:
    r"""Create a PatchTSMixer with about 800 random weights: context 32, patches of 8 steps, points of 8 steps a pass.

    Arguments:
        seed: The seed of the weights.

    Returns:
        The `PatchTSMixerForPrediction`; `save_pretrained(directory)` writes its checkpoint.

    Example:
        >>> model = adapts.load_foundation_model(tiny_patchtsmixer())
        >>> model(torch.randn(2, 30), prediction_length=5).shape
        torch.Size([2, 1, 5])
    """
    from transformers import PatchTSMixerConfig, PatchTSMixerForPrediction

    config = PatchTSMixerConfig(
        context_length=32, patch_length=8, patch_stride=8, d_model=8, num_layers=1, prediction_length=8, init_std=0.2
    )
    with seeded(seed):
        model: Any = PatchTSMixerForPrediction(config)
    return model.eval()


def tiny_fracast(*, seed: int = 0) -> Any:
    r"""Create a fracast with about 2000 random weights: context 32, 8 steps a pass, deciles.

    Arguments:
        seed: The seed of the weights.

    Returns:
        The `FracastModel`.
    """
    from fracast._core.model import build_from_cfg
    from fracast.inference import FracastModel

    config = fracast_config()
    with seeded(seed):
        core, head = build_from_cfg(config)
        torch.nn.init.normal_(head.future_conv.out_proj.weight, std=0.1)  # it starts at zero, with no future to read
    return FracastModel(core, head, config)


def fracast_config() -> dict[str, Any]:
    r"""Return the content of the `config.json` of the model that `tiny_fracast` creates."""
    sizes = {
        "d_model": 8, "W": 32, "level_widths": [32], "quantiles": list(DECILES), "horizon": 8, "future_queries": 2,
        "future_patch": 4, "n_stages": 3, "head_d_ff": 8, "periodic_topk": 2, "head_future_conv": True,
        "head_future_conv_layers": 2, "head_future_conv_seed": 8,
    }  # fmt: skip
    return {"model": sizes, "pyramid": {"ratios": []}}
