r"""Options of everything that has some: values of other types, too large, too small, or of no sense."""

from __future__ import annotations

import inspect
import itertools
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd

import adapts
from adapts import Adapter, GroupedAdapter, load_foundation_model, registry
from adapts.adapters import families, make
from adapts.foundation import FoundationModel

from . import odd
from .fits import TRAINER, small, tiny
from .judge import Case, require_whole
from .saved import _ahead, _dated, _panel, _rows
from .series import shown

_NUMBER = itertools.count()
#: What is nearly right for an option of some kind.
NEAR = (
    1, 2, 3, 4, 8, 0, -1, 1.0, 2.5, 0.5, 0.1, 1.5, True, False, None, "1", "a", "b", "plan", "none", "all", "auto",
    "cpu", "h", np.int64(3), np.float32(0.5), np.bool_(True), np.str_("a"), 10**6, 10**9, 10**12, 2**31, 2**63, 10**30,
    1e30, 1e300, float("nan"), float("inf"), -0.0, 5e-324, (0, 1), (1, 0), [0.1, 0.9], [0.9, 0.1], [0.5, 0.5], [], (),
    {}, ["a"], ["a", "a"], [["a"]], {"a": 1}, {"a": (0.0, 1.0)}, {"a": (1.0, 0.0)}, {"nope": (0.0, 1.0)},
    (float("nan"), 1.0), (0.0, float("inf")), (-np.inf, np.inf), [1.5], {"max_epochs": 0}, {"max_epochs": 10**6},
    {"max_epochs": "x"}, {"accelerator": "gpu"}, {"callbacks": 5}, {"nope": 1}, {"gradient_clip_val": -1},
    {"max_steps": -5}, {"devices": 2}, {"precision": "16"}, {1: 2}, (40, 50), (50, 40), (1, 2), (40.0, 50), (40,),
    (40, 50, 60), "mse", "mae", "nll", "elbo", "energy", "quantile", "huber", "residual", "linear", "vae", "identity",
    "schaake", "empirical", "drift", "var", "last value", "cuda", "meta", "mps", "cpu:7", range(2),
    np.array([0.1, 0.5]),
)  # fmt: skip


@dataclass(frozen=True)
class Fitted:
    r"""What is prepared: adapters that are fitted, and a forecast."""

    model: FoundationModel
    array: Adapter
    dated: Adapter
    panel: Adapter
    grouped: GroupedAdapter
    folder: Path
    forecasts: list[Any] = field(default_factory=list)


def prepare(folder: Path) -> Fitted:
    r"""Fits adapters of three kinds."""
    model = tiny()
    dated = small(model).fit(_dated(), known_covariates="plan")
    panel = small(model).fit(_panel(), item_column="shop", static=["kind"], calendar=True)
    array = small(model).fit(_rows())
    grouped = GroupedAdapter(small(model), "kind").fit(_panel().drop(columns="size"), item_column="shop")
    (folder / "inner" / "most").mkdir(parents=True)
    made = Fitted(model, array, dated, panel, grouped, folder)
    made.forecasts.extend([array.predict(num_samples=8), dated.predict(future=_ahead(_dated().index), num_samples=8)])
    return made


def _odd(random: Random) -> Any:
    return random.choice(NEAR) if random.random() < 0.55 else odd.value(random)


def _chosen(random: Random, names: Sequence[str]) -> dict[str, Any]:
    count = random.choice([1, 1, 1, 2, 3])
    return {name: _inside(_odd(random)) for name in random.sample(list(names), k=min(count, len(names)))}


def _parameters(function: Callable[..., Any], *without: str) -> list[str]:
    known = inspect.signature(function).parameters.values()
    names = [each.name for each in known if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD)]
    return [name for name in names if name not in ("self", "cls", *without)]


def _whole(result: Any) -> Any:
    for forecast in result if isinstance(result, list) else [result]:
        require_whole(forecast)
    return result


def options(random: Random, fitted: Fitted) -> Case:
    r"""A case of one call with one or a few options wrong."""
    model = fitted.model
    sites: dict[str, Callable[[], tuple[Any, Callable[[], Any]]]] = {}

    def site(weight: int, name: str, names: Sequence[str], call: Callable[..., Any]) -> None:
        def made() -> tuple[Any, Callable[[], Any]]:
            chosen = _chosen(random, names)
            return chosen, lambda: call(**chosen)

        for copy in range(weight):
            sites[f"{name}#{copy}"] = made

    def adapter(**chosen: Any) -> Any:
        return _whole(small(model, **chosen).fit(_rows()).predict(num_samples=4))

    def trained(**chosen: Any) -> Any:
        return _whole(small(model, **{"family": "linear", **chosen}).fit(_rows()).predict(num_samples=4))

    name = random.choice(sorted(families()))
    declared = list(type(make(name)).fields()) or ["nope"]

    def family(**chosen: Any) -> Any:
        made = make(name, chosen)
        repr(made)
        return _whole(small(model, made, posterior_draws=2).fit(_rows()).predict(num_samples=4))

    of_adapter = _parameters(Adapter.__init__)
    site(4, "Adapter", of_adapter, adapter)
    site(2, "Adapter(linear)", of_adapter, trained)
    site(4, f"make({name})", [*declared, "nope"], family)
    site(
        2,
        "fit",
        _parameters(Adapter.fit, "series"),
        lambda **o: _whole(small(model).fit(_dated(), **o).predict(num_samples=4)),
    )
    site(
        1,
        "fit long",
        _parameters(Adapter.fit, "series"),
        lambda **o: _whole(small(model).fit(_panel(), **o).predict(num_samples=4)),
    )
    site(3, "predict", _parameters(Adapter.predict), lambda **o: _whole(fitted.array.predict(**o)))
    ahead = {"future": _ahead(_dated().index), "num_samples": 4}
    site(2, "predict dated", _parameters(Adapter.predict), lambda **o: _whole(fitted.dated.predict(**{**ahead, **o})))
    site(1, "predict panel", _parameters(Adapter.predict), lambda **o: _whole(fitted.panel.predict(**o)))
    site(1, "predict grouped", _parameters(Adapter.predict), lambda **o: fitted.grouped.predict(**o))
    site(2, "update", _parameters(Adapter.update), lambda **o: fitted.array.clone() and _updated(fitted.array, o))
    site(
        2, "backtest", _parameters(Adapter.backtest, "series", "progress"),
        lambda **o: small(model).backtest(_rows(), **{"windows": 1, "baselines": False, **o}),
    )  # fmt: skip
    site(1, "GroupedAdapter", ["adapter", "group_column"], lambda **o: _grouped(model, o))
    site(1, "set_params", [*of_adapter, "family__lags", "family__nope"], lambda **o: small(model).set_params(**o))
    site(1, "load_foundation_model", ["model", "device"], lambda **o: load_foundation_model(**{"model": model, **o}))
    site(1, "load_recipe", ["name"], lambda **o: registry.load_recipe(**o))
    site(1, "load_card", ["name"], lambda **o: registry.load_card(**o))
    site(1, "set_verbosity", _parameters(adapts.set_verbosity), adapts.set_verbosity)
    site(
        1,
        "Adapter.load",
        ["path", "foundation_model", "device"],
        lambda **o: Adapter.load(**{"path": fitted.folder, **o}),
    )
    site(1, "GroupedAdapter.load", ["path", "device"], lambda **o: GroupedAdapter.load(**{"path": fitted.folder, **o}))
    site(1, "save", ["path", "overwrite"], lambda **o: _saved(fitted, o))
    site(1, "checkpoint_dir", ["checkpoint_dir"], lambda **o: small(model).fit(_rows(), **o))
    forecast = random.choice(fitted.forecasts)
    for method in ("quantile", "interval", "band", "aggregate", "probability", "scenarios", "to_pandas", "plot"):
        called = getattr(forecast, method)
        site(1, f"Forecast.{method}", _parameters(called), _closing(called))
    site(1, "tune", ["space", "trials", "folder", "borders"], lambda **o: _tuned(model, o))
    site(1, "AdapterEstimator", _estimator_options(), lambda **o: _estimated(model, o))
    key = random.choice(list(sites))
    chosen, call = sites[key]()

    def run() -> object:
        os.chdir(fitted.folder / "inner" / "most")  # what is written by a relative path stays in the folder
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call()

    told = ", ".join(f"{option}={shown(value)}" for option, value in chosen.items())
    return Case(f"{key.partition('#')[0]}: {told}", run)


def _updated(adapter: Adapter, chosen: dict[str, Any]) -> Any:
    import copy

    return _whole(copy.deepcopy(adapter).update(**{"series": _rows(76), **chosen}).predict(num_samples=4))


def _grouped(model: FoundationModel, chosen: dict[str, Any]) -> Any:
    made = GroupedAdapter(**{"adapter": small(model), "group_column": "kind", **chosen})
    return made.fit(_panel().drop(columns="size"), item_column="shop").predict(num_samples=4)


def _inside(value: Any) -> Any:
    r"""A path that lies in the working folder, whatever it says."""
    return (
        value.lstrip("/")
        if isinstance(value, str)
        else Path(str(value).lstrip("/"))
        if isinstance(value, Path)
        else value
    )


def _saved(fitted: Fitted, chosen: dict[str, Any]) -> Any:
    inside = {"path": f"saved-{next(_NUMBER)}", **chosen}
    return fitted.array.save(**inside)


def _closing(called: Callable[..., Any]) -> Callable[..., Any]:
    def call(**chosen: Any) -> Any:
        import matplotlib.pyplot as plt

        try:
            given = {"event": lambda paths: True, "how": np.mean, "k": 2, "level": 0.5, **chosen}
            return called(
                **{name: value for name, value in given.items() if name in inspect.signature(called).parameters}
            )
        finally:
            plt.close("all")

    return call


def _tuned(model: FoundationModel, chosen: dict[str, Any]) -> Any:
    from adapts.tuning import tune

    return tune(small(model), _rows(), **{"space": {"learning_rate": [0.1]}, "trials": 1, **chosen})


def _estimator_options() -> list[str]:
    from adapts.integrations.gluonts.estimator import AdapterEstimator

    return _parameters(AdapterEstimator.__init__)


def _estimated(model: FoundationModel, chosen: dict[str, Any]) -> Any:
    from adapts.integrations.gluonts.estimator import AdapterEstimator

    entries = [{"start": pd.Period("2024-01-01", "D"), "target": _rows().T}]
    quick = {
        "family": "residual",
        "prediction_length": 3,
        "context_length": 16,
        "max_windows": 12,
        "foundation_model": model,
        "trainer_kwargs": TRAINER,
    }
    predictor = AdapterEstimator(**{**quick, **chosen}).train(entries)
    return list(predictor.predict(entries))
