r"""Models whose head is untrained: PatchTST, and the stage of `fit` that trains the head first."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from seasonal import SeasonalModel
from torch import Tensor
from torch.testing import assert_close
from transformers import PatchTSTConfig, PatchTSTForPrediction, PatchTSTForPretraining, PatchTSTModel

from adapts import Adapter, load_foundation_model, tune
from adapts.data.splits import split_panel
from adapts.data.windows import split_windows
from adapts.foundation import FoundationModel
from adapts.foundation.patchtst import PatchTST
from adapts.testing.foundation import FoundationModelConformance
from adapts.training.probing import probe


def tiny(kind: type = PatchTSTForPretraining, **options: Any) -> Any:
    torch.manual_seed(0)
    config = PatchTSTConfig(
        num_input_channels=1, context_length=48, patch_length=8, patch_stride=8, prediction_length=8, d_model=16,
        num_hidden_layers=1, num_attention_heads=2, ffn_dim=32, **options,
    )  # fmt: skip
    return kind(config).eval()


def series(steps: int = 800, channels: int = 2) -> np.ndarray:
    time = np.arange(float(steps))[:, None]
    noise = np.random.default_rng(0).standard_normal((steps, channels))
    return np.sin(2 * np.pi * time / 12 + np.arange(float(channels))) + 0.1 * noise


def adapter(family: str = "identity", model: Any = None, **options: Any) -> Adapter:
    model = load_foundation_model(tiny()) if model is None else model
    return Adapter(family, foundation_model=model, prediction_length=8, max_windows=300, **options)


class TestPatchTST(FoundationModelConformance):
    @pytest.fixture
    def foundation_model(self) -> FoundationModel:
        model = load_foundation_model(tiny())
        head = model.untrained_head()
        assert head is not None
        state = {name: tensor + 0.1 * torch.randn_like(tensor) for name, tensor in head.state_dict().items()}
        return model.with_head(state)  # as after probing


# ---------------------------------------------------------------------- PatchTST


def test_untrained_it_forecasts_the_normal_law_of_the_window() -> None:
    context = torch.randn(3, 48) * 5 + 2
    quantiles = load_foundation_model(tiny())(context, 8)
    mean, scale = context.mean(1), context.std(1, correction=0)
    for index, level in ((1, 0.2), (4, 0.5), (8, 0.9)):
        expected = mean + scale * torch.special.ndtri(torch.tensor(level))
        assert_close(quantiles[:, index], expected[:, None].expand(-1, 8), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"use_cls_token": True}, {"scaling": None}])
def test_the_features_are_those_of_the_backbone(options: dict[str, Any]) -> None:
    backbone = tiny(PatchTSTModel, **options)
    model = load_foundation_model(backbone)
    assert isinstance(model, PatchTST)
    head = model.untrained_head()
    assert head is not None
    seen: list[Tensor] = []
    head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    context = torch.randn(3, 48)
    context = (context - context.mean(1, keepdim=True)) / context.std(1, correction=0, keepdim=True)
    model(context, 8)
    expected = backbone(past_values=context.unsqueeze(-1)).last_hidden_state.flatten(1)
    assert_close(seen[0], expected, rtol=1e-3, atol=1e-4)


def test_every_form_of_it_gives_the_same_model(tmp_path: Path) -> None:
    whole = tiny(PatchTSTForPrediction)
    whole.save_pretrained(tmp_path / "patches")
    before = copy.deepcopy(whole.state_dict())
    models = [load_foundation_model(each) for each in (whole, whole.model, tmp_path / "patches")]
    assert len({model.fingerprint()["sha256"] for model in models}) == 1
    assert models[2].fingerprint()["name"] == "patches"
    assert_close(whole.state_dict(), before, rtol=0, atol=0)


def test_loading_draws_nothing(tmp_path: Path) -> None:
    whole = tiny()
    whole.save_pretrained(tmp_path)
    state = torch.get_rng_state()
    load_foundation_model(whole)
    load_foundation_model(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)


def test_backbones_that_tell_channels_apart_are_refused() -> None:
    config = PatchTSTConfig(num_input_channels=3, context_length=48, patch_length=8, channel_attention=True)
    with pytest.raises(ValueError, match="treats its 3 channels differently: expected a univariate model"):
        load_foundation_model(PatchTSTModel(config))


def test_a_backbone_of_many_channels_with_one_embedding_takes_series_alone() -> None:
    config = PatchTSTConfig(num_input_channels=3, context_length=48, patch_length=8, d_model=16, ffn_dim=16)
    context = torch.randn(2, 48)
    assert load_foundation_model(PatchTSTModel(config))(context, 5).shape == (2, 9, 5)


# ---------------------------------------------------------------------- a head of its own


def test_a_copy_with_another_head_shares_all_but_the_head() -> None:
    model = load_foundation_model(tiny())
    before = model.fingerprint()
    head = model.untrained_head()
    assert head is not None
    other = model.with_head({name: tensor + 1 for name, tensor in head.state_dict().items()})
    assert model.fingerprint() == before != other.fingerprint()
    mine, theirs = dict(model.named_parameters()), dict(other.named_parameters())
    assert {name for name in mine if mine[name] is not theirs[name]} == {"head.weight", "head.bias"}
    assert not other.training
    assert not any(parameter.requires_grad for parameter in other.parameters())


def test_heads_that_do_not_fit_are_refused() -> None:
    model = load_foundation_model(tiny())
    with pytest.raises(ValueError, match="does not fit the head of"):
        model.with_head({"weight": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match="seasonal-12 has no trainable head, got the tensors of one"):
        SeasonalModel().with_head({})


def test_probing_beats_the_untrained_head_and_leaves_the_model_alone() -> None:
    from adapts import Panel

    model = load_foundation_model(tiny())
    before = model.fingerprint()
    panel = Panel.of(series())
    parts = split_panel(panel)
    train, validation = (
        split_windows(panel, parts[name], context_length=48, prediction_length=8, max_windows=200)
        for name in ("train", "validation")
    )
    head, losses = probe(model, train, validation, batch_size=32, seed=0)
    assert losses["best"] < 0.5 * losses["before"]
    assert model.fingerprint() == before
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.parameters())
    again, _ = probe(model, train, validation, batch_size=32, seed=0)
    assert_close(head, again, rtol=0, atol=0)
    # What is said of the best is what the head returned gives.
    probed = model.with_head(head)
    quantiles = probed(validation.past().mT.flatten(0, 1), 8)
    error = validation.future().mT.flatten(0, 1).unsqueeze(1) - quantiles
    levels = torch.tensor(model.quantile_levels)[:, None]
    assert float(torch.maximum(levels * error, (levels - 1) * error).mean()) == pytest.approx(losses["best"], rel=1e-4)


# ---------------------------------------------------------------------- the stage of fit


def test_fit_trains_the_head_and_the_loaded_model_never_changes() -> None:
    model = load_foundation_model(tiny())
    before = model.fingerprint()
    fitted = adapter(model=model).fit(series())
    assert "epochs; validation loss" in fitted.summary().stages["probe"]
    assert model.fingerprint() == before
    assert fitted.model is model
    off = adapter(model=model, probe_head=False).fit(series())
    assert off.summary().stages["probe"] == "probe_head=False, the head stays untrained"
    truth = series(808)[800:]
    errors = [np.abs(each.predict().mean - truth).mean() for each in (fitted, off)]
    assert errors[0] < 0.6 * errors[1]
    assert fitted.clone().model is model


@pytest.mark.parametrize("family", ["linear", "residual"])
def test_the_adapter_is_fitted_around_the_model_with_its_head(family: str) -> None:
    model = load_foundation_model(tiny())
    options: dict[str, Any] = {"trainer_options": {"max_epochs": 1}} if family == "linear" else {}
    fitted = adapter(family, model, **options).fit(series())
    assert set(fitted.summary().stages) >= {"probe", "train", "gate"}
    frozen = adapter(model=model).fit(series())
    assert_close(fitted.require_fitted("").head, frozen.require_fitted("").head, rtol=0, atol=0)


def test_the_head_is_saved_and_pickled_with_the_adapter(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path / "model")
    fitted = adapter(model=str(tmp_path / "model")).fit(series())
    forecast = fitted.predict().mean
    fitted.save(tmp_path / "saved")
    again = Adapter.load(tmp_path / "saved", foundation_model=tmp_path / "model")
    np.testing.assert_array_equal(again.predict().mean, forecast)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict().mean, forecast)
    with pytest.raises(ValueError, match="seasonal-12 has no trainable head, got the tensors of one"):
        Adapter.load(tmp_path / "saved", foundation_model=SeasonalModel())


def test_a_fit_goes_on_behind_the_probing(tmp_path: Path) -> None:
    model = load_foundation_model(tiny())
    whole = adapter(model=model).fit(series(), checkpoint_dir=tmp_path)
    again = adapter(model=model).fit(series(), checkpoint_dir=tmp_path)
    np.testing.assert_array_equal(again.predict().mean, whole.predict().mean)
    assert again.summary().stages == whole.summary().stages


def test_too_few_windows_leave_the_head_as_it_is() -> None:
    fitted = adapter().fit(series(60))
    assert fitted.summary().stages["probe"].startswith("left out: ")


def test_the_option_is_for_such_models_alone() -> None:
    with pytest.raises(
        ValueError, match="probe_head=True is for models whose head is untrained, seasonal-12 has no such head"
    ):
        adapter(model=SeasonalModel(), probe_head=True).fit(series())
    with pytest.raises(ValueError, match="probe_head to be True, False or None, got 'yes'"):
        adapter(probe_head="yes")
    assert "probe" not in adapter(model=SeasonalModel()).fit(series()).summary().stages


def test_a_search_probes_too() -> None:
    tuned = tune(adapter(), series(), {"probe_head": [True, False]}, trials=3)
    assert tuned.params == {"probe_head": True}
    losses = tuned.trials.groupby("probe_head")["loss"].min()
    assert losses[True] < 0.6 * losses[False]
