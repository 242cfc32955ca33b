r"""Small models with random weights of packages that have environments of their own; each of the package's class."""

from __future__ import annotations

__all__ = [
    "tiny_flowstate",
    "tiny_moirai1",
    "tiny_moirai2",
    "tiny_moment",
    "tiny_patchtst_fm",
    "tiny_tirex",
    "tiny_ttm",
]

from typing import Any

from .._random import seeded


def tiny_ttm(*, seed: int = 0, **options: Any) -> Any:
    r"""Create a TTM for a context of 64 steps and 16 target steps a pass.

    Arguments:
        seed: The seed of the weights.
        options: Fields of `TinyTimeMixerConfig` to override.

    Returns:
        The `TinyTimeMixerForPrediction`; `save_pretrained(directory)` writes its checkpoint.
    """
    from tsfm_public.models.tinytimemixer import TinyTimeMixerConfig, TinyTimeMixerForPrediction

    sizes = {"context_length": 64, "patch_length": 8, "patch_stride": 8, "prediction_length": 16, "d_model": 16,
             "num_layers": 2, "decoder_d_model": 16, "decoder_num_layers": 2}  # fmt: skip
    with seeded(seed):
        return TinyTimeMixerForPrediction(TinyTimeMixerConfig(**(sizes | options)))


def tiny_patchtst_fm(*, seed: int = 0, **options: Any) -> Any:
    r"""Create a PatchTST-FM for a context of 64 steps, 16 target steps a pass and nine levels.

    Arguments:
        seed: The seed of the weights.
        options: Fields of `PatchTSTFMConfig` to override.

    Returns:
        The `PatchTSTFMForPrediction`; `save_pretrained(directory)` writes its checkpoint.
    """
    from tsfm_public.models.patchtst_fm import PatchTSTFMConfig, PatchTSTFMForPrediction

    sizes = {"context_length": 80, "prediction_length": 16, "d_patch": 8, "d_model": 16, "n_head": 2, "n_layer": 2,
             "num_quantile": 9, "pretrain_mask_cont": 2}  # fmt: skip
    with seeded(seed):
        return PatchTSTFMForPrediction(PatchTSTFMConfig(**(sizes | options)))


def tiny_flowstate(*, seed: int = 0, **options: Any) -> Any:
    r"""Create a FlowState for a context of 64 steps, 12 target steps a pass and nine levels.

    Arguments:
        seed: The seed of the weights.
        options: Fields of `FlowStateConfig` to override.

    Returns:
        The `FlowStateForPrediction`; `save_pretrained(directory)` writes its checkpoint.
    """
    from tsfm_public.models.flowstate import FlowStateConfig, FlowStateForPrediction

    sizes = {"context_length": 64, "embedding_feature_dim": 16, "encoder_num_layers": 2, "encoder_state_dim": 16,
             "encoder_num_hippo_blocks": 2, "decoder_dim": 16, "decoder_patch_len": 12}  # fmt: skip
    with seeded(seed):
        return FlowStateForPrediction(FlowStateConfig(**(sizes | options)))


def tiny_moirai2(*, seed: int = 0, **options: Any) -> Any:
    r"""Create a Moirai 2 for a context of 64 steps, 16 target steps a pass and nine levels.

    Arguments:
        seed: The seed of the weights.
        options: Arguments of `Moirai2Module` to override.

    Returns:
        The `Moirai2Module`; `save_pretrained(directory)` writes its checkpoint.
    """
    from uni2ts.model.moirai2 import Moirai2Module

    sizes = {"d_model": 64, "d_ff": 32, "num_layers": 2, "patch_size": 8, "max_seq_len": 10, "attn_dropout_p": 0.0,
             "dropout_p": 0.0, "num_predict_token": 2,
             "quantile_levels": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]}  # fmt: skip
    with seeded(seed):
        return Moirai2Module(**(sizes | options))


def tiny_moirai1(*, seed: int = 0) -> Any:
    r"""Create a Moirai 1 for a context of 192 steps in patches of 16, whose law is a mixture of two.

    Arguments:
        seed: The seed of the weights.

    Returns:
        The `MoiraiModule`; `save_pretrained(directory)` writes its checkpoint.
    """
    from uni2ts.distribution import MixtureOutput, NormalFixedScaleOutput, StudentTOutput
    from uni2ts.model.moirai import MoiraiModule

    with seeded(seed):
        return MoiraiModule(
            distr_output=MixtureOutput([StudentTOutput(), NormalFixedScaleOutput()]), d_model=64, num_layers=1,
            patch_sizes=(8, 16), max_seq_len=16, attn_dropout_p=0.0, dropout_p=0.0,
        )  # fmt: skip


def tiny_moment(*, seed: int = 0, prediction_length: int = 16) -> Any:
    r"""Create a MOMENT for a context of 64 steps, made for forecasting.

    Arguments:
        seed: The seed of the weights.
        prediction_length: The number of target steps of its untrained head.

    Returns:
        The `MOMENTPipeline`; `save_pretrained(directory)` writes its checkpoint.
    """
    from momentfm import MOMENTPipeline

    encoder = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2,
               "vocab_size": 32, "feed_forward_proj": "gated-gelu"}  # fmt: skip
    config = {"task_name": "reconstruction", "model_name": "MOMENT", "transformer_type": "encoder_only",
              "transformer_backbone": "google/flan-t5-small", "seq_len": 64, "patch_len": 8, "patch_stride_len": 8,
              "d_model": 16, "t5_config": encoder, "enable_gradient_checkpointing": False}  # fmt: skip
    with seeded(seed):
        model = MOMENTPipeline(config, model_kwargs={"task_name": "forecasting", "forecast_horizon": prediction_length})
        model.init()
    return model


def tiny_tirex(*, seed: int = 0) -> Any:
    r"""Create a TiRex for a context of 128 steps, 64 target steps a pass and nine levels.

    Arguments:
        seed: The seed of the weights.

    Returns:
        The `TiRexZero`.
    """
    import torch
    from tirex.models.tirex import TiRexZero

    levels = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    config = {"input_patch_size": 8, "output_patch_size": 8, "quantiles": levels, "input_ff_dim": 32,
              "block_kwargs": {"embedding_dim": 16, "num_heads": 2, "num_blocks": 2}}  # fmt: skip
    with seeded(seed):
        model = TiRexZero(backend="torch", model_config=config, train_ctx_len=128)
        for parameter in model.parameters():  # the package leaves some uninitialised
            torch.nn.init.normal_(parameter, std=0.3)
    return model
