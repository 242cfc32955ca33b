r"""Whatever is given for an option: it is taken, or one error of ours names it within a bounded message."""

import ast
import inspect
import re
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import adapts
from adapts import Adapter, GroupedAdapter, tune
from adapts.adapters import families, make
from adapts.checks import LONGEST
from adapts.data.panel import Panel
from adapts.errors import in_memory
from adapts.evaluation.backtest import roll
from adapts.foundation import load_foundation_model
from adapts.integrations.gluonts.estimator import AdapterEstimator
from adapts.integrations.gluonts.predictor import AdapterPredictor
from adapts.testing.tiny import tiny_chronos_bolt

LIBRARY = str(Path(adapts.__file__).parent)


class Hostile:
    r"""An object that fails whatever it is asked."""

    def __repr__(self) -> str:
        raise RuntimeError

    def __bool__(self) -> bool:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None


#: Nothing that any option takes, except for a name, a switch or a number where one is expected.
VALUES = [
    True, -1, 1.5, float("nan"), float("inf"), 1e30, 1e300, 10**9, 10**30, 10**400, 10**5000, 2**31, 2**63, "", "x",
    "x" * 5000, "\ud800", "a\0b", b"x", [], {}, set(), [[1], [2, 3]], np.array(1), np.array([1, 2]), np.array(True),
    np.array("mse"), np.array([None], dtype=object), torch.tensor(1), torch.ones(2), pd.Series([1.0, 2.0]), pd.NA,
    np.timedelta64(3, "h"), np.datetime64("2024-01-01"), pd.Timedelta("3h"),
    1j, object(), int, lambda *_: None, Hostile(), range(3), Path("nowhere"),
]  # fmt: skip


@cache
def raised_lines(path: str) -> set[int]:
    nodes = ast.walk(ast.parse(Path(path).read_text()))
    return {line for node in nodes if isinstance(node, ast.Raise) for line in range(node.lineno, node.end_lineno + 1)}


def judge(call: Callable[[], object]) -> bool:
    r"""Whether a call was refused; fails where it was by anything but a `raise` of ours."""
    try:
        call()
    except (ValueError, TypeError, OSError) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        assert last.filename.startswith(LIBRARY) and last.lineno in raised_lines(last.filename), repr(error)[:500]
        assert 0 < len(str(error)) < 2000
        return True
    return False


def refusals(call: Callable[[object], object]) -> int:
    return sum(judge(lambda value=value: call(value)) for value in VALUES)


@pytest.fixture(scope="module")
def model():
    return load_foundation_model(tiny_chronos_bolt(context_length=16, prediction_length=4))


@pytest.fixture(scope="module")
def series() -> pd.DataFrame:
    values = np.sin(np.arange(160)[:, None] / 2 + np.arange(2.0))
    return pd.DataFrame(values + 0.1 * np.random.default_rng(0).normal(size=(160, 2)), columns=["a", "b"])


@pytest.fixture(scope="module")
def fitted(model, series) -> Adapter:
    return Adapter("identity", foundation_model=model, prediction_length=4, context_length=16).fit(series)


@pytest.mark.parametrize("option", list(inspect.signature(Adapter.__init__).parameters)[1:])
def test_an_option_of_adapter(option, model, fitted):
    if option == "foundation_model":
        assert refusals(lambda value: isinstance(value, str) or load_foundation_model(value)) > 25
        return
    if option == "device":
        assert refusals(lambda value: load_foundation_model(model, device=value)) == len(VALUES)
        return
    given = {"family": "vae", "foundation_model": model, "prediction_length": 4}
    assert refusals(lambda value: Adapter(**{**given, option: value})) > 25
    assert refusals(lambda value: fitted.clone().set_params(**{option: value})) > 25


@pytest.mark.parametrize("option", ["posterior_draws", "seed", "batch_size", "trainer_options", "support", "copula"])
def test_an_option_that_is_set_after_the_fit(option, fitted):
    kept = getattr(fitted, option)

    def predict(value: object) -> None:
        setattr(fitted, option, value)
        try:
            fitted.predict()
        finally:
            setattr(fitted, option, kept)

    assert refusals(predict) > 25


@pytest.mark.parametrize(
    ("family", "option"), [(name, option) for name, family in families().items() for option in family.fields()]
)
def test_an_option_of_a_family(family, option):
    assert refusals(lambda value: make(family, {option: value}).build(2)) > 25


@pytest.mark.parametrize("option", ["num_samples", "quantile_levels", "seed"])
def test_an_option_of_predict(option, fitted):
    assert refusals(lambda value: fitted.predict(**{option: value})) > 25


@pytest.mark.parametrize(
    ("method", "argument"),
    [("quantile", "level"), ("interval", "level"), ("band", "level"), ("band", "joint"), ("aggregate", "how"),
     ("probability", "event"), ("scenarios", "k"), ("to_pandas", "quantile_levels"), ("plot", "channels"),
     ("plot", "history"), ("plot", "axes")],
)  # fmt: skip
def test_an_argument_of_a_forecast(method, argument, fitted):
    from matplotlib import pyplot as plt

    forecast = fitted.predict()
    assert refusals(lambda value: getattr(forecast, method)(**{argument: value})) > 25
    plt.close("all")


@pytest.mark.parametrize("option", ["windows", "stride", "scale", "baselines", "models", "refit", "progress"])
def test_an_option_of_backtest(option, fitted, series):
    quick = {"baselines": False} if option != "baselines" else {}
    for value in VALUES:
        taken = (option in ("baselines", "refit", "progress") and isinstance(value, bool)) or (
            (option, type(value)) in [("baselines", list), ("models", dict), ("stride", int)]
        )
        assert taken or judge(lambda value=value: fitted.backtest(series, **{**quick, option: value}))


@pytest.mark.parametrize("option", ["season_length", "num_samples", "seed", "on_progress", "models", "series"])
def test_an_option_of_roll(option, fitted, series):
    given = {"models": fitted, "series": Panel.of(series), "windows": 2, "baselines": False}
    values = [value for value in VALUES if not (option == "on_progress" and callable(value))]
    assert sum(judge(lambda value=value: roll(**{**given, option: value})) for value in values) > 25


@pytest.mark.parametrize("option", ["adapter", "space", "trials", "on_trial"])
def test_an_option_of_tune(option, fitted, series):
    pytest.importorskip("optuna")
    given = {"adapter": fitted, "series": series, "space": {"context_length": [16]}, "trials": 1}
    values = [value for value in VALUES if not (option == "on_trial" and callable(value))]
    assert sum(judge(lambda value=value: tune(**{**given, option: value})) for value in values) > 25
    if option == "space":
        assert refusals(lambda value: tune(**{**given, "space": {"context_length": value}})) > 25
        assert refusals(lambda value: tune(**{**given, "space": {"learning_rate": (1, value)}})) > 25


def test_options_of_grouped_adapters_and_of_gluonts(fitted, model):
    assert refusals(lambda value: GroupedAdapter(value, "region")) == len(VALUES)
    assert refusals(lambda value: GroupedAdapter(fitted, value)) > 25
    for option in ("num_samples", "batch_size", "freq"):
        assert refusals(lambda value, option=option: AdapterPredictor(fitted, **{option: value})) > 25
    for option in list(inspect.signature(AdapterEstimator.__init__).parameters)[1:]:
        given = {"prediction_length": 4, "foundation_model": model}
        refusals(lambda value, option=option, given=given: AdapterEstimator(**{**given, option: value}))


# ------------------------------------------------------------------------------------------------ sizes


@pytest.mark.parametrize("option", ["prediction_length", "context_length"])
def test_no_length_is_longer_than_any_model_reads(option):
    given = {"prediction_length": 4, option: LONGEST + 1}
    with pytest.raises(ValueError, match=f"Adapter expects {option} to be at most {LONGEST}, got {LONGEST + 1}: "):
        Adapter(**given)


def test_samples_that_would_not_fit_in_memory_are_refused_with_the_most_that_do(fitted):
    with pytest.raises(ValueError, match="num_samples to be at most 33554432, .*: pass at most 33554432, .* 2 GiB"):
        fitted.predict(num_samples=10**30)
    with pytest.raises(ValueError, match="num_samples to be at most 16384, got 1000000000: pass 16384 or less"):
        roll(fitted, Panel.of(np.random.default_rng(0).normal(size=(99, 1))), num_samples=10**9)
    with pytest.raises(ValueError, match="scenarios compares all pairs of samples, at most 16384, got 16385"):
        fitted.predict(num_samples=16385).scenarios(2)


@pytest.mark.parametrize(
    ("family", "options"),
    [("vae", {"hidden": 4096, "depth": 250}), ("autoencoder", {"hidden": 4096, "depth": 256}),
     ("flow", {"transforms": 256, "hidden": 1024, "depth": 8}), ("pca", {}),
     ("ensemble", {"member": "vae", "members": 1000, "member_options": {"hidden": 4096, "depth": 2}}),
     ("bayesian", {"base": "linear", "sites": "decoder", "guide": "low-rank", "rank": 2**31 - 1})],
)  # fmt: skip
def test_sizes_that_multiply_are_refused_before_anything_is_allocated(family, options):
    made = Adapter(family, prediction_length=4).family if not options else make(family, options)
    with pytest.raises(
        ValueError, match="would have .* weights, at most 67108864 are allowed: pass fewer channels, or"
    ):
        made.build(20_000 if family == "pca" else 2)


def test_memory_that_runs_out_is_told_as_such():
    for call in (lambda: np.empty(2**48), lambda: torch.empty(2**48)):
        with pytest.raises(ValueError, match="this fit needs more memory than there is: fit fewer"):
            with in_memory("this fit", "fit fewer"):
                call()
    with pytest.raises(RuntimeError, match="another"), in_memory("this fit", "fit fewer"):
        raise RuntimeError("another")


def test_numpys_numbers_and_truths_are_taken(model):
    given = {"prediction_length": np.int64(4), "gate": np.bool_(True), "seed": np.uint32(3)}
    adapter = Adapter("vae", foundation_model=model, learning_rate=np.float32(0.5), **given)
    assert adapter.set_params(family__hidden=np.int32(8)).family.hidden == 8


def test_a_function_that_fails_on_a_path_is_named(fitted):
    with pytest.raises(ValueError, match=re.escape("aggregate calls the function with each path, an array (H, D)")):
        fitted.predict().aggregate(lambda path: path[:, 9])
    with pytest.raises(ValueError, match="aggregate expects a function that returns arrays of one shape, got"):
        fitted.predict().aggregate(lambda path: path[path > 0])


@pytest.mark.parametrize("folder", ["new", "there"])
def test_overwrite_is_a_switch(folder, fitted, tmp_path):
    if folder == "there":
        fitted.save(tmp_path / folder)
    switches = sum(isinstance(value, bool) for value in VALUES)
    assert refusals(lambda value: fitted.save(tmp_path / folder, overwrite=value)) == len(VALUES) - switches
