r"""The original Chronos (T5): quantiles of its sample paths, repeatable and forward only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from checkpoints import (
    assert_damage_is_refused,
    assert_the_checkpoint_is_the_model,
    assert_the_schema_is_complete,
    assert_untouched,
    rewrite,
    saved,
)
from chronos import BaseChronosPipeline, ChronosConfig, ChronosModel, ChronosPipeline
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import T5Config

from adapts.foundation import FoundationModel, load_foundation_model
from adapts.foundation.chronos_t5 import LEVELS, ChronosT5, Config
from adapts.testing.foundation import FoundationModelConformance
from adapts.testing.tiny import tiny_chronos_t5


@pytest.fixture(scope="module")
def model() -> FoundationModel:
    return load_foundation_model(tiny_chronos_t5())


class TestChronosT5(FoundationModelConformance):
    affine_equivariant: ClassVar[bool] = False  # to scale only, see below

    @pytest.fixture
    def foundation_model(self, model: FoundationModel) -> FoundationModel:
        return model


def test_scale_carries_over(model: FoundationModel) -> None:
    context = torch.randn(4, 50)
    for scale in (4.0, 0.125):  # exact in binary, so that no value changes its bin
        assert_close(model(scale * context, 12), scale * model(context, 12))


def test_the_most_probable_path_is_the_pipeline_s() -> None:
    # With one token to draw from, all paths are this one.
    pipeline = tiny_chronos_t5(top_k=1)
    context = torch.randn(6, 40)
    context[2, :15], context[3, 20:23] = torch.nan, torch.nan
    expected = pipeline.predict(context, num_samples=2)  # (N, 2, P)
    quantiles = load_foundation_model(pipeline)(context, 8)
    assert_close(quantiles, expected[:, :1].expand(-1, 9, -1))


@pytest.mark.parametrize("options", [{}, {"top_k": 8}, {"top_p": 0.6}])
def test_paths_have_the_law_of_the_pipeline_s(options: dict[str, Any]) -> None:
    number = 4000
    pipeline = tiny_chronos_t5(num_samples=number, **options)
    model = load_foundation_model(pipeline)
    context = torch.randn(1, 40, generator=torch.Generator().manual_seed(3))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        paths = pipeline.predict(context)[0]  # (S, P)
    tokens, observed, scale = model.tokenizer.context_input_transform(context)
    own = model.tokenizer.output_transform(model._paths(tokens, observed), scale)[0]
    for moments in (lambda x: x.mean(0), lambda x: x.std(0), lambda x: x[:, :-1].mul(x[:, 1:]).mean(0)):
        error = (moments(own) - moments(paths)).abs() / paths.std()
        assert error.max() < 5 * 2 / number**0.5  # of two means, each with this standard error or less


def test_quantiles_of_the_first_step_are_those_of_its_distribution() -> None:
    # The levels of twenty paths are stratified: a decile is off by two strata at most, not by chance.
    pipeline = tiny_chronos_t5(top_k=0)
    model, context = load_foundation_model(pipeline), torch.randn(20, 40)
    tokens, observed, scale = pipeline.tokenizer.context_input_transform(context)
    with torch.no_grad():
        logits = pipeline.inner_model(
            input_ids=tokens, attention_mask=observed, decoder_input_ids=torch.zeros(20, 1, dtype=torch.long)
        ).logits[:, 0]
    logits[:, 1] = -torch.inf
    values = pipeline.tokenizer.output_transform(torch.arange(64).expand(20, 1, -1), scale)[:, 0]  # (N, V)
    quantiles, probabilities = model(context, 1)[..., :1], logits.softmax(-1)[:, None]  # (N, Q, 1), (N, 1, V)
    rounding = 1e-5 * scale[:, None, None]
    up_to = (probabilities * (values[:, None] <= quantiles + rounding)).sum(-1)  # (N, Q)
    below = (probabilities * (values[:, None] < quantiles - rounding)).sum(-1)
    levels = torch.tensor(LEVELS)
    assert (up_to > levels - 0.1).all()
    assert (below < levels + 0.1).all()


def test_forecasts_do_not_change_the_global_generator_nor_depend_on_it(model: FoundationModel) -> None:
    context = torch.randn(2, 30)
    state = torch.get_rng_state()
    forecast = model.predict(context, 20)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(7)
    assert torch.equal(model.predict(context, 20), forecast)


def test_stock_chronos_has_a_gradient_that_is_no_slope() -> None:
    # Why it is forward only: the gradient of the scale alone is finite, and says nothing of the steps.
    context = torch.randn(1, 40).abs().requires_grad_()
    pipeline = tiny_chronos_t5(top_k=1)
    tokens, observed, scale = pipeline.tokenizer.context_input_transform(context)
    paths = pipeline.tokenizer.output_transform(pipeline.model(tokens, observed), scale)
    (gradient,) = torch.autograd.grad(paths.sum(), context)
    assert gradient.isfinite().all()
    assert (gradient == gradient[0, 0]).all()  # the same for each step
    model = load_foundation_model(pipeline)
    assert not model.differentiable
    with pytest.raises(ValueError, match="has no gradient with respect to its context"):
        model(context, 3)


def test_the_number_of_paths() -> None:
    model = tiny_chronos_t5().model
    assert ChronosT5(model, name="m").uniforms.shape == (8, 20)
    assert ChronosT5(model, name="m", num_samples=100).uniforms.shape == (8, 100)
    levels = ChronosT5(model, name="m", num_samples=50).uniforms
    assert torch.equal((levels * 50).floor().sort(1).values, torch.arange(50.0).expand(8, -1))
    with pytest.raises(ValueError, match="expected num_samples to be at least 2, got 1"):
        ChronosT5(model, name="m", num_samples=1)


def test_checkpoints(tmp_path: Path) -> None:
    folder = saved(tiny_chronos_t5().inner_model, tmp_path / "tiny")
    assert_the_checkpoint_is_the_model(tiny_chronos_t5(), folder)
    assert isinstance(BaseChronosPipeline.from_pretrained(folder), ChronosPipeline)
    assert_damage_is_refused(folder, "decoder.block")


def test_checkpoints_with_a_separate_output_layer(tmp_path: Path) -> None:
    # As the public ones have it, in the words of Transformers 4 and, saved again, of Transformers 5.
    first, again = saved(tiny_chronos_t5().inner_model, tmp_path / "first"), tmp_path / "again"
    weights = load_file(first / "model.safetensors")
    weights["lm_head.weight"] = torch.randn_like(weights["shared.weight"])
    save_file(weights, first / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((first / "config.json").read_text())
    del config["scale_decoder_outputs"]
    (first / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    pipeline = BaseChronosPipeline.from_pretrained(first)
    assert not pipeline.inner_model.config.scale_decoder_outputs
    saved(pipeline.inner_model, again)
    context = torch.randn(3, 40)
    expected = load_foundation_model(pipeline)(context, 8)
    for folder in (first, again):
        assert torch.equal(load_foundation_model(folder)(context, 8), expected)


def test_no_key_of_a_config_is_dropped() -> None:
    derived = {"dense_act_fn", "is_gated_act"}
    assert_the_schema_is_complete(T5Config, Config, {"classifier_dropout", "is_decoder", "use_cache"} | derived)


def test_live_models() -> None:
    pipeline = tiny_chronos_t5()
    assert_untouched(pipeline, pipeline.inner_model)
    assert isinstance(load_foundation_model(pipeline.model), ChronosT5)


def test_a_decoder_without_encoder_is_refused() -> None:
    model = tiny_chronos_t5().model
    causal = ChronosModel(ChronosConfig(**vars(model.config) | {"model_type": "causal"}), model.model)
    with pytest.raises(ValueError, match="of type 'causal': expected one with encoder and decoder"):
        load_foundation_model(causal)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chronos_config": {"model_type": "causal"}}, "'chronos_config.model_type', which should be 'seq2seq'"),
        ({"chronos_config": {"tokenizer_class": "os"}}, "'chronos_config.tokenizer_class', which should be"),
        ({"chronos_config": {"n_tokens": 65}}, "should have a vocab_size of at least chronos_config.n_tokens"),
        ({"chronos_config": {"n_special_tokens": 2, "eos_token_id": 2}}, "should have special tokens below"),
        ({"chronos_config": {"temperature": 0.0}}, "'chronos_config.temperature', which should be greater than 0"),
        ({"d_model": 2**15}, "do not fit its config.json: it describes at least"),
    ],
)
def test_a_config_is_checked_before_it_is_used(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = saved(tiny_chronos_t5().inner_model, tmp_path)
    rewrite(folder, changes)
    with pytest.raises(ValueError, match=message):
        load_foundation_model(folder)
