r"""Fits in several threads: each gets its seed's numbers, and the process is left as it was."""

import logging
import os
import threading
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from adapts import Adapter
from adapts._logging import quiet, without_warnings
from adapts._random import seeded
from adapts.foundation import load_foundation_model
from adapts.testing.tiny import tiny_chronos_bolt

H = 4


@pytest.fixture(scope="module")
def model():
    return load_foundation_model(tiny_chronos_bolt(context_length=24, prediction_length=H))


@pytest.fixture(scope="module")
def series() -> pd.DataFrame:
    time = np.arange(400)[:, None]
    values = np.sin(time / 4 + np.arange(2.0)) + 0.2 * np.random.default_rng(0).normal(size=(400, 2))
    return pd.DataFrame(values, columns=["a", "b"])


def make(family: str, model, seed: int = 0, *, bar: bool = False) -> Adapter:
    trainer = {"max_epochs": 2, "enable_progress_bar": bar}
    return Adapter(
        family, foundation_model=model, prediction_length=H, context_length=24, max_windows=60, batch_size=8,
        gate=False, seed=seed, trainer_options=trainer,
    )  # fmt: skip


def together(*works) -> None:
    r"""Runs functions at once, each in a thread; raises what any of them raised."""
    errors, start = [], threading.Barrier(len(works))

    def run(work) -> None:
        start.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def samples(family: str, model, seed: int, series: pd.DataFrame, *, bar: bool = False) -> np.ndarray:
    adapter = make(family, model, seed, bar=bar).fit(series)
    assert "epochs" in adapter.summary().stages["train"]
    return adapter.predict().samples


@pytest.mark.parametrize("family", ["vae", "dropout", "linear"])
def test_fits_by_gradient_at_once_give_the_numbers_of_their_seeds(family: str, model, series) -> None:
    alone = [samples(family, model, seed, series) for seed in (0, 1)]
    at_once: dict[int, np.ndarray] = {}
    together(*(lambda seed=seed: at_once.update({seed: samples(family, model, seed, series)}) for seed in (0, 1)))
    for seed in (0, 1):
        np.testing.assert_array_equal(at_once[seed], alone[seed])
    assert not np.array_equal(alone[0], alone[1])


def test_fits_at_once_may_all_show_progress_bars(model, series, capsys) -> None:
    together(*(lambda seed=seed: samples("linear", model, seed, series, bar=True) for seed in range(4)))


@pytest.mark.parametrize("family", ["vae", "residual", "pca"])
def test_a_fit_leaves_the_callers_generators_where_they_were(family: str, model, series) -> None:
    trained = family == "vae"
    adapter = make(family, model) if trained else Adapter(family, foundation_model=model, prediction_length=H)
    torch.manual_seed(5)
    np.random.seed(5)
    before, of_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()
    adapter.fit(series).predict()
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], of_numpy)


def test_an_adapter_is_made_without_a_draw(model) -> None:
    before = torch.get_rng_state()
    Adapter("vae", foundation_model=model, prediction_length=H, learning_rate=0.01).set_params(family__hidden=8)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_generator_is_restored_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError), seeded(3):
        torch.rand(2)
        raise RuntimeError
    assert torch.equal(torch.get_rng_state(), before)


def test_a_fit_inside_of_a_callback_of_another_gives_the_same_numbers(model, series) -> None:
    from lightning.pytorch import Callback

    inner = samples("vae", model, 1, series)
    found = []

    class FitWithin(Callback):
        def on_train_start(self, *_: object) -> None:
            found.append(samples("vae", model, 1, series))

    outer = make("dropout", model)
    outer.trainer_options = {**outer.trainer_options, "callbacks": [FitWithin()]}
    forecast = outer.fit(series).predict()
    np.testing.assert_array_equal(forecast.samples, samples("dropout", model, 0, series))
    np.testing.assert_array_equal(found, [inner])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # that other threads are not in the child is the point
def test_a_child_that_is_forked_while_another_thread_draws_can_draw() -> None:
    inside, done = threading.Event(), threading.Event()

    def draw() -> None:
        with seeded(0), quiet():
            inside.set()
            done.wait()

    thread = threading.Thread(target=draw)
    thread.start()
    inside.wait()
    child = os.fork()
    if child == 0:
        loud = logging.getLogger("lightning.pytorch").level != logging.ERROR
        with seeded(1), quiet():
            os._exit(0 if loud else 1)
    done.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0


def test_levels_and_filters_are_as_before_once_the_last_thread_leaves() -> None:
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "transformers")]
    before = [logger.level for logger in loggers], warnings.filters[:]
    first_left = threading.Event()
    entered = threading.Barrier(2)

    def first() -> None:
        with quiet():
            entered.wait()
        first_left.set()

    def last() -> None:
        with quiet():
            entered.wait()
            first_left.wait()
            assert all(logger.level == logging.ERROR for logger in loggers)
        with without_warnings():
            pass

    together(first, last)
    assert ([logger.level for logger in loggers], warnings.filters[:]) == before


def test_many_fits_at_once_leave_levels_and_filters_as_they_were(model, series) -> None:
    names = ("lightning.pytorch", "lightning.fabric", "transformers", "gluonts")
    samples("linear", model, 0, series)  # what is imported sets its own level
    before = [logging.getLogger(name).level for name in names], warnings.filters[:]
    together(*(lambda seed=seed: samples("linear", model, seed, series) for seed in range(4)))
    assert ([logging.getLogger(name).level for name in names], warnings.filters[:]) == before
