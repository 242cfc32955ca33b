r"""Small models of other packages with random weights, for tests; each of the package's own class."""

from __future__ import annotations

__all__ = [
    "tiny_nanoforecast",
    "tiny_t0",
    "tiny_timesfm3",
    "tiny_tirex2",
    "tiny_tirex2_config",
    "tiny_toto2",
    "tiny_yug",
    "tiny_yug_pipeline",
]

from typing import Any

from .._random import seeded


def tiny_toto2(*, patch: int = 8, seed: int = 0) -> Any:
    r"""Create a Toto 2 with two layers, one over time and one over variates, and about 20 000 random weights.

    Arguments:
        patch: The number of steps per token.
        seed: The seed of the weights.

    Returns:
        The `Toto2Model`; `save_pretrained(directory)` writes its checkpoint.
    """
    from toto2 import Toto2Model, Toto2ModelConfig

    config = Toto2ModelConfig(
        patch_size=patch, d_model=16, num_heads=2, num_layers=2, layer_group_size=2, num_variate_layers_per_group=1,
        variate_layer_first=False, residual_attn_ratio=2.0,
    )  # fmt: skip
    with seeded(seed):
        return Toto2Model(config).eval()


def tiny_t0(*, patch: int = 8, scale_floor: str = "std_clamp", seed: int = 0) -> Any:
    r"""Create a t0 with two layers, one over time and one over a group, and about 30 000 random weights.

    Arguments:
        patch: The number of steps per token.
        scale_floor: How the scale stays positive: "std_clamp" (t0-beta) or "variance_offset" (t0-alpha).
        seed: The seed of the weights.

    Returns:
        The `T0Forecaster`; `save_pretrained(directory)` writes its checkpoint.
    """
    from t0 import T0Config
    from t0.torch import T0Forecaster

    config = T0Config(
        embed_dim=32, num_layers=2, num_heads=2, mlp_hidden_dim=32, patch_size=patch, group_every_n=2, dropout=0.1,
        quantile_levels=(0.1, 0.25, 0.5, 0.75, 0.9), scaler_eps=0.01, scaler_eps_mode=scale_floor,
    )  # fmt: skip
    with seeded(seed):
        return T0Forecaster.from_config(config).eval()


def tiny_tirex2(*, patch: int = 8, difference: bool = False, seed: int = 0) -> Any:
    r"""Create a TiRex-2 with one block of each kind and about 20 000 random weights.

    Arguments:
        patch: The number of steps per token.
        difference: Whether series with a trend are differenced.
        seed: The seed of the weights.

    Returns:
        The `TiRex2`; `safetensors.torch.save_model` writes its weights.
    """
    from tirex2 import TiRex2

    with seeded(seed):
        return TiRex2(**tiny_tirex2_config(patch=patch, difference=difference), device="cpu").eval()


def tiny_tirex2_config(*, patch: int = 8, difference: bool = False) -> dict[str, Any]:
    r"""Return the content of the `config.json` of `tiny_tirex2`, with the same arguments.

    Arguments:
        patch: The number of steps per token.
        difference: Whether series with a trend are differenced.

    Returns:
        The config.
    """

    def block(kind: str) -> dict[str, Any]:
        mixer = {"embedding_dim": 16, "num_heads": 2}
        return {"time_mixer": {"model_type": kind, **mixer}, "variate_mixer": mixer, "dropout": 0.0, "eps": 1e-6}

    return {
        "stack_config": {"templates": {"m": block("bi-mlstm"), "s": block("bi-slstm")}, "recipe": ["m", "s"]},
        "num_blocks": 2, "embedding_dim": 16, "input_patch_size": patch, "output_patch_size": patch,
        "quantiles": [level / 10 for level in range(1, 10)],
        "tokenizer_cfg": {"output_patch_size": patch, "input_patch_size": patch, "input_patch_stride": patch},
        "scaler_cfg": {"eps": 1e-8, "use_arcsinh": True}, "h_expand": 2.0, "context_len": 64, "future_len": 16,
        "input_ff_dim": 16, "act_func": "SiLU", "dropout": 0.0, "tta_diff": difference,
    }  # fmt: skip


def tiny_yug(*, patch: int = 8, seed: int = 0) -> Any:
    r"""Create a Yug with two layers and about 30 000 random weights.

    Arguments:
        patch: The number of steps per token.
        seed: The seed of the weights.

    Returns:
        The `Yug_Model`; `tiny_yug_pipeline` saves it.
    """
    from yug import Yug_Model

    with seeded(seed):
        return Yug_Model(_yug_config(patch)).eval()


def tiny_yug_pipeline(*, patch: int = 8, seed: int = 0) -> Any:
    r"""Create the pipeline of `tiny_yug`, with the same arguments.

    Arguments:
        patch: The number of steps per token.
        seed: The seed of the weights.

    Returns:
        The `YugPipeline`; `save_pretrained(directory)` writes its checkpoint.
    """
    from yug import YugPipeline

    return YugPipeline(tiny_yug(patch=patch, seed=seed), _yug_config(patch), device="cpu")


def _yug_config(patch: int) -> Any:
    from yug import YugConfig

    return YugConfig(
        patch_len=patch, output_dim=2 * patch, hidden_dim=16, d_model=16, num_attn_heads=2, num_decoder_layers=2
    )  # fmt: skip


def tiny_timesfm3(*, patch: int = 8, seed: int = 0) -> Any:
    r"""Create a TimesFM 3 with two layers and about 30 000 random weights.

    Arguments:
        patch: The number of steps per token.
        seed: The seed of the weights.

    Returns:
        The `TimesFM3Torch`; `save_pretrained(directory)` writes its checkpoint.
    """
    from timesfm3 import TimesFM3Torch

    block = {"hidden_dims": 16, "output_dims": 16, "use_bias": False, "activation": "relu"}
    layer = {
        "model_dims": 16, "hidden_dims": 16, "num_heads": 2, "attention_norm": "rms", "feedforward_norm": "rms",
        "qk_norm": "rms", "use_rope_seq": True, "use_rope_var": False, "use_bias": False, "ff_activation": "relu",
        "deterministic": True,
    }  # fmt: skip
    with seeded(seed):
        return TimesFM3Torch(
            input_patch_len=patch, output_patch_len=2 * patch, residual_block_config=block,
            transformer_config={"num_layers": 2, "transformer": layer},
        ).eval()  # fmt: skip


def tiny_nanoforecast(*, patch: int = 8, seed: int = 0) -> Any:
    r"""Create a NanoForecast with one layer, a context of 64 steps and about 20 000 random weights.

    Arguments:
        patch: The number of steps per token.
        seed: The seed of the weights.

    Returns:
        The `NanoForecast`; `save_pretrained(directory)` writes its checkpoint.
    """
    from nanoforecast.config import NanoForecastConfig
    from nanoforecast.model import NanoForecast

    config = NanoForecastConfig(context_length=64, prediction_length=16, d_model=8, num_layers=1, patch_size=patch)
    with seeded(seed):
        return NanoForecast(config).eval()
