r"""Small Chronos-Bolt with random weights, for tests."""

from __future__ import annotations

__all__ = ["tiny_chronos_bolt"]

from collections.abc import Sequence
from typing import Any

from .._random import seeded


def tiny_chronos_bolt(
    *,
    context_length: int = 64,
    prediction_length: int = 8,
    patch: int = 8,
    quantile_levels: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    use_reg_token: bool = True,
    seed: int = 0,
) -> Any:
    r"""Create a Chronos-Bolt with about 9000 random weights: a valid frozen model at negligible cost.

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
