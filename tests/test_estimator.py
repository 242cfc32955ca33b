r"""The habits of estimators: options read and set, clones, pickles across processes, threads that share an adapter."""

import copy
import multiprocessing
import pickle
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from seasonal import SeasonalModel
from sklearn.base import clone
from sklearn.utils.parallel import Parallel, delayed
from test_adapter import D, H, adapter, series

from adapts import Adapter
from adapts.adapters import Linear, Residual
from adapts.testing.tiny import tiny_chronos_bolt


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory: pytest.TempPathFactory):
    r"""A frozen model that has an address."""
    folder = tmp_path_factory.mktemp("model")
    tiny_chronos_bolt().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def fitted(saved_model) -> Adapter:
    return adapter(foundation_model=saved_model, max_windows=60, context_length=48).fit(series(400))


# ------------------------------------------------------------------------------------------------ options


def test_options_are_given_back_as_they_were_given() -> None:
    given = {
        "family": Residual(lags=5), "foundation_model": SeasonalModel(), "prediction_length": np.int64(6),
        "support": {"a": (0.0, np.inf)}, "trainer_options": {"max_epochs": 2}, "seed": 3,
    }  # fmt: skip
    one = Adapter(**given)
    params = one.get_params(deep=False)
    assert all(params[name] is value for name, value in given.items())
    assert one.get_params()["family__lags"] == 5 and "family__lags" not in params
    assert Adapter("linear", prediction_length=6).get_params(deep=False)["objective"] is None
    assert Adapter("linear", prediction_length=6).get_params(deep=False)["family"] == "linear"


def test_set_params_changes_options_of_the_adapter_and_of_its_family() -> None:
    one = adapter()
    assert one.set_params(prediction_length=6, family__lags=7) is one
    assert one.prediction_length == 6 and one.family.lags == 7 and one.family.components is None
    one.set_params(family="linear", family__latent_channels=2)
    assert one.family.options() == Linear(latent_channels=2).options()
    assert one.get_params()["family__latent_channels"] == 2
    assert one.set_params() is one
    for wrong, words in {
        "prediction_lenght": "no option of Adapter is called 'prediction_lenght'.*did you mean 'prediction_length'",
        "family__latents": "no option of Linear is called 'latents'.*did you mean 'latent_channels'",
    }.items():
        with pytest.raises(ValueError, match=words):
            one.set_params(**{wrong: 3})
    with pytest.raises(ValueError, match="a positive integer"):
        one.set_params(seed=5, prediction_length=0)
    assert one.prediction_length == 6 and one.seed == 0


def test_what_was_fitted_with_other_options_is_forgotten(fitted: Adapter) -> None:
    one = copy.deepcopy(fitted)
    np.testing.assert_array_equal(one.predict().samples, fitted.predict().samples)
    with pytest.raises(ValueError, match="call fit"):
        one.set_params(prediction_length=6).predict()


def test_a_misspelt_option_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no option of Adapter is called 'prediction_lenght'.*did you mean 'predi"):
        Adapter(prediction_lenght=6)
    with pytest.raises(TypeError, match=r"needs prediction_length=, the number of steps to forecast"):
        Adapter()


@pytest.mark.parametrize(
    ("name", "value"),
    [("prediction_length", 5), ("context_length", 24), ("support", (0.0, 1e9)), ("foundation_model", SeasonalModel()),
     ("family", "linear"), ("copula", "independent"), ("gate", False)],
)  # fmt: skip
def test_an_option_that_is_changed_after_fit_asks_for_another_fit(name: str, value, fitted: Adapter, tmp_path) -> None:
    one = copy.deepcopy(fitted)
    before = one.get_params(deep=False)[name]
    setattr(one, name, value)
    for use in (one.predict, one.summary, lambda: one.save(tmp_path / "run"), lambda: pickle.dumps(one)):
        with pytest.raises(ValueError, match=f"{name} was changed since fit, from .* to .*: fit again, or set it back"):
            use()
    assert "fitted on 3 channels" in repr(one)
    setattr(one, name, before)
    np.testing.assert_array_equal(one.predict().samples, fitted.predict().samples)


def test_a_fit_takes_the_options_that_were_set(fitted: Adapter) -> None:
    one = copy.deepcopy(fitted)
    one.prediction_length, one.foundation_model = 6, SeasonalModel()
    assert one.fit(series(400)).model is one.foundation_model and one.predict().mean.shape == (6, D)
    one.prediction_length = 0
    with pytest.raises(ValueError, match="prediction_length to be a positive integer"):
        one.fit(series(400))
    one = copy.deepcopy(fitted)
    one.seed, one.posterior_draws, one.batch_size = 5, 3, 7  # these are read anew by every forecast
    np.testing.assert_array_equal(one.predict().samples, fitted.predict(seed=5).samples)


#: Options with which no adapter can be made, and words of the answer.
UNFIT = {
    "a support of one number": ({"support": 0}, "support=(low, high) of two numbers with low < high"),
    "a channel's support of one": ({"support": {"a": 0}}, "or a mapping of channels to such pairs, got {'a': 0}"),
    "half a support": ({"support": (0, None)}, "infinite without a bound"),
    "a support of text": ({"support": "01"}, "got '01'"),
    "a learning rate of text": ({"family": "linear", "learning_rate": "a"}, "learning_rate to be a positive number"),
    "an endless learning rate": ({"family": "linear", "learning_rate": np.inf}, "learning_rate to be a positive"),
    "weights of text": ({"family": "linear", "horizon_weights": "a"}, "horizon_weights to be a positive number"),
    "weights that grow": ({"family": "linear", "horizon_weights": 2}, "horizon_weights within (0, 1]"),
    "an option of no trainer": (
        {"trainer_options": {"max_epoch": 3}},
        "no option of lightning.pytorch.Trainer is called 'max_epoch'; known: ",
    ),
    "nearly one": ({"trainer_options": {"max_epoch": 3}}, "(did you mean 'max_epochs'?)"),
    "an endless context": ({"context_length": 10**9}, "at most 131072, got 10"),
    "a trainer": ({"trainer_options": 3}, "trainer_options to be a mapping of names to values, got 3"),
    "half weights": ({"trainer_options": {"precision": "bf16-true"}}, "'bf16-true': use precision='bf16-mixed'"),
    "double weights": ({"trainer_options": {"precision": 64}}, "precision=64: use precision='bf16-mixed'"),
    "no validation": ({"trainer_options": {"limit_val_batches": 0}}, "limit_val_batches=0: leave it out"),
    "no logs": ({"trainer_options": {"barebones": True}}, "barebones=True: leave it out"),
    "one part": ({"trainer_options": {"overfit_batches": 2}}, "overfit_batches=2: use limit_train_batches"),
    "late validation": (
        {"trainer_options": {"check_val_every_n_epoch": 3, "max_epochs": 2}},
        "check_val_every_n_epoch=3 of 2 epochs: pass check_val_every_n_epoch=2 or less",
    ),
}


@pytest.mark.parametrize("case", UNFIT)
def test_options_that_are_unfit_are_refused_when_they_are_given(case: str) -> None:
    options, words = UNFIT[case]
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        Adapter(prediction_length=H, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "borders", [("2024-01-05", "2024-01-08"), (100, 150, 200), (100, 401), (150, 100), (0, 100), (100.0, 150.0), 100]
)
def test_borders_that_are_none_are_refused(borders) -> None:
    with pytest.raises(ValueError, match=r"two numbers of rows with 0 < train end <= validation end <= 400, got"):
        adapter().fit(series(400), borders=borders)


def test_levels_are_a_sequence(fitted: Adapter) -> None:
    for levels in (0.5, "0.5", [0.5, 1.0], ["a"]):
        with pytest.raises(ValueError, match=r"quantile_levels: levels lie within \(0, 1\), as 0.9 does; got"):
            fitted.predict(quantile_levels=levels)


@pytest.mark.parametrize("copied", [Adapter.clone, clone])
def test_clones_have_the_options_and_the_model_and_are_not_fitted(copied, fitted: Adapter) -> None:
    other = copied(fitted)
    assert other.model is fitted.model
    for name, value in fitted.get_params(deep=False).items():
        assert other.get_params(deep=False)[name] is value, name
    with pytest.raises(ValueError, match="call fit"):
        other.predict()
    np.testing.assert_array_equal(other.fit(series(400)).predict().samples, fitted.predict().samples)


# ------------------------------------------------------------------------------------------------ pickles


def test_a_pickle_forecasts_the_same_and_holds_no_frozen_weights(fitted: Adapter, saved_model) -> None:
    weights = (saved_model / "model.safetensors").read_bytes()
    frozen = next(tensor for tensor in fitted.model.state_dict().values() if tensor.numel() > 500).numpy().tobytes()
    assert frozen in weights
    pickled = pickle.dumps(fitted)
    assert frozen not in pickled
    other = pickle.loads(pickled)
    np.testing.assert_array_equal(other.predict().samples, fitted.predict().samples)
    np.testing.assert_array_equal(other.predict(series(390)).mean, fitted.predict(series(390)).mean)
    assert str(other.summary()) == str(fitted.summary()) and repr(other) == repr(fitted)
    assert pickle.loads(pickle.dumps(adapter(foundation_model=saved_model))).get_params() == (
        adapter(foundation_model=saved_model).get_params() | {"foundation_model": saved_model}
    )


def test_a_live_model_is_pickled_with_its_adapter() -> None:
    one = adapter().fit(series(400))
    other = pickle.loads(pickle.dumps(one))
    np.testing.assert_array_equal(other.predict().samples, one.predict().samples)


def test_a_pickle_refuses_another_model_at_its_address(tmp_path) -> None:
    tiny_chronos_bolt(seed=0).save_pretrained(tmp_path)
    pickled = pickle.dumps(adapter("identity", foundation_model=tmp_path, max_windows=30).fit(series(200)))
    tiny_chronos_bolt(seed=1).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="was fitted around another foundation model than"):
        pickle.loads(pickled).predict()


def test_other_processes_forecast_the_same(fitted: Adapter) -> None:
    expected = fitted.predict()
    (by_joblib, _) = Parallel(n_jobs=2)(delayed(Adapter.predict)(fitted) for _ in range(2))
    np.testing.assert_array_equal(by_joblib.samples, expected.samples)
    np.testing.assert_array_equal(by_joblib.mean, expected.mean)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(Adapter.predict, (fitted,)).samples, expected.samples)


# ------------------------------------------------------------------------------------------------ threads


def test_threads_may_share_an_adapter(fitted: Adapter) -> None:
    rows = [series(150 + 7 * number, seed=number) for number in range(8)] * 4
    expected = [fitted.predict(each).samples for each in rows[:8]] * 4
    fresh = pickle.loads(pickle.dumps(fitted))  # its model is not loaded yet
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda each: fresh.predict(each).samples, rows))
    for one, other in zip(found, expected, strict=True):
        assert one.shape == (200, H, D)
        np.testing.assert_array_equal(one, other)
