r"""Search over the options of an adapter on the validation windows, with Optuna."""

from __future__ import annotations

__all__ = ["SPACE", "Tuned", "tune"]

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import checks
from ._logging import get_logger, quiet
from ._random import seeded
from ._version import __version__
from .adapter import Adapter
from .adapters import Portfolio
from .data.cards import Dataset
from .data.schema import read_dataset
from .data.splits import split_panel
from .errors import reading, shown, unknown
from .fitting.fingerprint import rows_digest
from .fitting.run import EffectCache, validate
from .foundation import FoundationModel
from .foundation.cache import cached_forecasts
from .options import FIELDS, TRAINING
from .persistence.checkpoints import Checkpoints
from .persistence.ownership import RECIPE, TRIALS, as_path, named, replaced_file
from .presets import is_trained

if TYPE_CHECKING:
    import pandas as pd
    from optuna import Trial

logger = get_logger(__name__)

#: The maximum number of trials of a search; each trial is a fit.
MOST_TRIALS = 100_000
#: What `tune` searches by default.
SPACE: Mapping[str, Any] = {
    "family": ["auto", "residual", "attention"],
    "family__members": [
        Portfolio.members,  # of the default adapter
        ("residual", "context", "var", "attention"),
        ("residual", "attention"),
    ],
}
#: The reasons why options are not searched.
_REASONS_NOT_SEARCHED = {name: why for name, each in FIELDS.items() if (why := each.metadata["unsearched"])}


@dataclass(frozen=True)
class Tuned:
    r"""Result of a search.

    Arguments:
        adapter: The unfitted adapter with the best options.
        params: The best values of the searched options, by name.
        loss: Its loss on the validation windows; see `tune`.
        frozen_loss: The loss of the frozen model on the same windows.
        trials: A frame with one row per trial: its number, its state ("complete", or "refused" if the options cannot be
            combined), its loss, the error of a refused trial, and one column per option, missing if the trial had none.
    """

    adapter: Adapter
    params: dict[str, Any]
    loss: float
    frozen_loss: float
    trials: pd.DataFrame

    @property
    def recipe(self) -> dict[str, Any]:
        r"""The recipe: family, options and training. Its `when` names the options that a recipe cannot hold."""
        family = self.adapter.family
        options = {name: x for name, x in family.options().items() if x != family.fields()[name]}
        training = {
            name: x if name == "objective" else float(x) for name, x in self.adapter.training_.items() if x is not None
        }
        further_options = {name: x for name, x in self.params.items() if not _in_recipe(name)}
        when = (
            f"Tuned in {len(self.trials)} trials, prediction_length={self.adapter.prediction_length}: validation loss "
            f"{self.loss:.4g}, the frozen model's {self.frozen_loss:.4g}."
        )
        when += (
            f" Use it with {', '.join(f'{name}={x!r}' for name, x in further_options.items())}."
            if further_options
            else ""
        )
        whole: dict[str, Any] = {"family": family.family, "when": when, "options": options, "training": training}
        as_json: dict[str, Any] = json.loads(json.dumps({name: x for name, x in whole.items() if x}))
        return as_json

    def write(self, path: str | Path) -> None:
        r"""Write the recipe as a YAML file, for `Adapter(Path(...), ...)` and the command line.

        Arguments:
            path: The file. An existing file is replaced only if this method wrote it.

        Raises:
            OSError: If the file cannot be written.
            ValueError: If another file exists there.
        """
        import yaml

        text = yaml.safe_dump(self.recipe, sort_keys=False, width=120)
        with replaced_file(path, RECIPE) as file:
            file.write_bytes(RECIPE.starts.removesuffix(b"family:") + text.encode())


def tune(
    adapter: Adapter,
    series: Any,
    space: Mapping[str, Any] | None = None,
    trials: int = 20,
    *,
    folder: str | Path | None = None,
    on_trial: Callable[[str], None] | None = None,
    target: str | Sequence[str] | None = None,
    past_covariates: str | Sequence[str] = (),
    known_covariates: str | Sequence[str] = (),
    calendar: bool = False,
    static: str | Sequence[str] = (),
    item_column: str | Sequence[str] | None = None,
    timestamp_column: str | None = None,
    frequency: str | None = None,
    regularise: bool = False,
    borders: tuple[int, int] | None = None,
) -> Tuned:
    r"""Search the options of an adapter on the validation windows of series.

    A trial fits the parameters on the train rows, as `fit` does (training by gradient stops early on the validation
    windows), and scores the adapter's law on the validation windows as the gate will see it: with noise, before
    gate, copula and recalibration. The score is twice the quantile loss at our levels, a coarse CRPS, averaged over
    windows, leads and channels in units of the train rows. A point error would not tell a sharp law from a wrong one,
    and a gated law would tie wherever the gate is closed. Calibration and confirmation rows are not read, nor any row
    behind them, so that what `fit` decides there is decided on rows that no search has seen. The validation windows
    themselves are used up: `loss` is a little too low, the more so the more trials there are, and where weights are
    selected on these windows (`auto`).

    Covariates are used where `fit` would use them, and what a trial costs grows likewise: past ones are tried both ways
    in each trial, what known ones explain is found once as long as the frozen model and its context stay. The frozen
    model's loss is that of the raw targets without covariates.

    The first trial is the adapter as it is, as far as the space holds its options. Further trials are drawn by a
    tree-structured Parzen estimator, up to the tenth at random.

    References:
        | Algorithms for Hyper-Parameter Optimization (Bergstra et al., 2011)
        | Optuna: A Next-generation Hyperparameter Optimization Framework (Akiba et al., 2019), needs `adapts[tune]`

    Arguments:
        adapter: The adapter, which is not modified: its other options are kept, and its seed is that of the search.
        series: As for `Adapter.fit`.
        space: The search space by option, with the names of `Adapter.get_params`: a list of values,
            `"family__latent_channels": [2, 4, 8]`; or a closed range of integers or real numbers,
            `"learning_rate": (1e-4, 1e-2, "log")`, uniform without `"log"`. If families are searched, a trial ignores
            the options that its family does not have. If None, `SPACE`: the families `auto`, with three sets of
            members, `residual` and `attention`.
        trials: The total number of trials, including those of an earlier call on the same folder.
        folder: The folder for checkpoints. An interrupted search resumes there when it is called again, and makes the
            same trials as an uninterrupted one.
        on_trial: A function that is called after each trial with a description of its result.
        target: As for `Adapter.fit`.
        past_covariates: As for `Adapter.fit`.
        known_covariates: As for `Adapter.fit`.
        calendar: As for `Adapter.fit`.
        static: As for `Adapter.fit`.
        item_column: As for `Adapter.fit`.
        timestamp_column: As for `Adapter.fit`.
        frequency: As for `Adapter.fit`.
        regularise: As for `Adapter.fit`.
        borders: As for `Adapter.fit`.

    Returns:
        The result of the search.

    Raises:
        ValueError: If an option does not exist, cannot be searched or has an invalid value; if the series are invalid;
            if the folder holds another search or other files, or another process uses it; if Optuna is not installed.

    Example:
        >>> series = np.sin(np.arange(400.0)[:, None] / 4 + np.arange(3.0)) + 0.1 * np.random.randn(400, 3)
        >>> adapter = adapts.Adapter("pca", prediction_length=8, context_length=32)
        >>> tuned = adapts.tune(adapter, series, {"family__latent_channels": [2, 3]}, trials=2)
        >>> forecast = tuned.adapter.fit(series).predict()
    """
    optuna = _optuna()
    if not isinstance(adapter, Adapter):
        raise ValueError(f"tune expects an Adapter, got {type(adapter).__name__}")
    checks.integer("tune expects trials", trials, most=MOST_TRIALS)
    if on_trial is not None and not callable(on_trial):
        raise ValueError(f"tune expects on_trial to be a function of a text, got {shown(on_trial)}")
    dataset = read_dataset(
        series, target=target, past_covariates=past_covariates, known_covariates=known_covariates, calendar=calendar,
        static=static, item_column=item_column, timestamp_column=timestamp_column, frequency=frequency,
        regularise=regularise,
    )  # fmt: skip
    searched = _Space(adapter, SPACE if space is None else space, _width(dataset))
    folder = None if folder is None else as_path("folder", folder)
    facts = {} if folder is None else _fingerprint(adapter, dataset, borders, searched)
    with Checkpoints(folder, facts) as checkpoints, cached_forecasts():
        backend = optuna.storages.journal.JournalFileBackend
        journal = checkpoints.path("trials.log")
        if journal is not None and os.path.lexists(journal) and not TRIALS.wrote(journal, torn=True):
            raise ValueError(f"{named(journal)} does not hold the trials of a search: move it away")
        what = f"{named(journal)} cannot be read as the trials of a search"
        lock = threading.Lock()  # for threads only: the folder is locked against other processes
        with quiet(), reading(what, "choose another folder, or delete this one"):
            study = optuna.create_study(
                storage=None if journal is None else optuna.storages.JournalStorage(backend(str(journal), lock)),
                study_name="adapts", load_if_exists=True,
            )  # fmt: skip
        search = _Search(adapter, dataset, borders, searched)
        for running in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            study.tell(running.number, state=optuna.trial.TrialState.FAIL)  # of a killed process
        finished = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
        while (done := len(study.get_trials(deepcopy=False, states=finished))) < trials:
            # One seed per trial, so that a resumed search makes the same draws as an uninterrupted one.
            state = np.random.SeedSequence([int(adapter.seed), done]).generate_state(1)
            with quiet():
                if not done and not study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)):
                    study.enqueue_trial(searched.of(adapter))
                study.sampler = optuna.samplers.TPESampler(seed=int(state[0]))
                trial = study.ask()
                params = searched.suggest(trial)
            try:
                candidate = search.candidate(params)
            except ValueError as error:
                message = f"refused: {error}"
                trial.set_user_attr("error", str(error))
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            else:
                loss, frozen_loss = search.losses(candidate)
                message = f"loss {loss:.4g}, the frozen model's {frozen_loss:.4g}"
                trial.set_user_attr("frozen_loss", frozen_loss)
                study.tell(trial, loss)
            message = (
                f"trial {done + 1} of {trials}, {', '.join(f'{name}={x!r}' for name, x in params.items())}: {message}"
            )
            logger.info(message)
            if on_trial is not None:
                on_trial(message)
        return _result(search, study.get_trials(deepcopy=False, states=finished)[: int(trials)])


class _Space:
    r"""Search space: a list of values or a range for each option."""

    def __init__(self, adapter: Adapter, space: Mapping[str, Any], channels: int) -> None:
        if not isinstance(space, Mapping) or not space:
            raise ValueError(f"tune expects space to map options to lists of values or ranges, got {shown(space)}")
        self.choices = dict(space)
        for name, choices in self.choices.items():
            if name in _REASONS_NOT_SEARCHED:
                raise ValueError(f"{name} is not searched, {_REASONS_NOT_SEARCHED[name]}: set it on the adapter")
            _check_choices(name, choices)
        families = list(self.choices.get("family", [None]))
        if isinstance(self.choices.get("family"), tuple):
            raise ValueError(f"tune expects a list of names for family, got {shown(self.choices['family'])}")
        known = list(adapter.get_params(deep=False))
        for family in families:
            base = _with(adapter, {} if family is None else {"family": family})
            known += [name for name in base.get_params() if name.startswith("family__")]
        for name, choices in self.choices.items():
            if name not in known:
                raise unknown("option of Adapter", name, dict.fromkeys(known))
            for value in choices if isinstance(choices, list) else choices[:2]:
                self._require_fit(adapter, families if name != "family" else [None], {name: value}, channels)

    @staticmethod
    def _require_fit(adapter: Adapter, families: list[Any], option: dict[str, Any], channels: int) -> None:
        r"""Raise an error if a value is invalid for every family that it may be combined with."""
        errors = []
        for family in families:
            params = option if family is None else {"family": family, **option}
            try:
                if set(option) <= set(_applicable(adapter, params)):
                    _require_buildable(_with(adapter, params), channels)
                    return
            except ValueError as error:
                errors.append(error)
        name, value = next(iter(option.items()))
        raise (
            errors[0]
            if errors
            else ValueError(
                f"{name}={shown(value)} is for training by gradient, and nothing trains {shown(adapter.family)} by "
                "gradient: leave it out"
            )
        )

    def suggest(self, trial: Trial) -> dict[str, Any]:
        r"""Draw a value of each option."""
        drawn: dict[str, Any] = {}
        for name, choices in self.choices.items():
            if isinstance(choices, list):
                labels = {_label(value): value for value in choices}
                drawn[name] = labels[str(trial.suggest_categorical(name, list(labels)))]
            else:
                suggest = trial.suggest_int if isinstance(choices[0], int) else trial.suggest_float
                drawn[name] = suggest(name, choices[0], choices[1], log=len(choices) == 3)
        return drawn

    def of(self, adapter: Adapter) -> dict[str, Any]:
        r"""Return the options of an adapter that the space holds, as Optuna stores them."""
        options = adapter.get_params()
        held: dict[str, Any] = {}
        for name, choices in self.choices.items():
            value = options.get(name)
            if isinstance(choices, list):
                if _label(value) in {_label(choice) for choice in choices}:
                    held[name] = _label(value)
            elif isinstance(value, int | float) and choices[0] <= value <= choices[1]:
                held[name] = value
        return held

    def read(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        r"""Return the values of the space for those that Optuna stores."""
        lists = {name: {_label(value): value for value in choices} for name, choices in self.choices.items()
                 if isinstance(choices, list)}  # fmt: skip
        return {name: lists[name][str(value)] if name in lists else value for name, value in drawn.items()}


class _Search:
    r"""Construction and scoring of the adapters of trials."""

    def __init__(self, adapter: Adapter, dataset: Dataset, borders: tuple[int, int] | None, space: _Space) -> None:
        self.adapter, self.dataset, self.borders, self.space = adapter, dataset, borders, space
        self.models: dict[str, FoundationModel] = {}
        self.found: tuple[Any, EffectCache] = (None, {})

    def candidate(self, params: Mapping[str, Any]) -> Adapter:
        adapter_of_trial = _with(self.adapter, _applicable(self.adapter, params))
        _require_buildable(adapter_of_trial, _width(self.dataset))
        return adapter_of_trial

    def losses(self, adapter_of_trial: Adapter) -> tuple[float, float]:
        name = _label(adapter_of_trial.foundation_model)
        if name in self.models:
            adapter_of_trial.model = self.models[name]
        self.models[name] = adapter_of_trial.model
        # As long as these stay, so does all that the frozen model says; a head depends on the batches.
        same = (name, adapter_of_trial.context_length, adapter_of_trial.batch_size, adapter_of_trial.probe_head)
        if self.found[0] != same:
            self.found = (same, {})
        ours, theirs = adapter_of_trial.apply(validate, self.dataset, self.borders, effects=self.found[1])
        return (ours if np.isfinite(ours) else float("inf")), theirs


def _width(dataset: Dataset) -> int:
    r"""Return the number of channels that an adapter reads."""
    return len(dataset.panel.targets) + len(dataset.panel.past_covariates)


def _applicable(adapter: Adapter, params: Mapping[str, Any]) -> dict[str, Any]:
    r"""Return the drawn options that apply to the drawn family."""
    applicable = {name: value for name, value in params.items() if name == "family"}
    fields = _with(adapter, applicable).family.fields()
    applicable |= {name: x for name, x in params.items()
              if name.startswith("family__") and name.removeprefix("family__") in fields}  # fmt: skip
    trained = is_trained(_with(adapter, applicable).family)
    return applicable | {
        name: value for name, value in params.items()
        if not name.startswith("family") and (trained or name not in TRAINING)
    }  # fmt: skip


def _require_buildable(adapter: Adapter, channels: int) -> None:
    r"""Raise an error if the options of a family do not fit the number of channels."""
    with seeded(0):  # the parameters are discarded
        adapter.family.build(channels)


def _with(adapter: Adapter, params: Mapping[str, Any]) -> Adapter:
    return adapter.clone().set_params(**params)


def _check_choices(name: str, choices: Any) -> None:
    if isinstance(choices, list) and choices:
        return
    numbers = choices[:2] if isinstance(choices, tuple) else ()
    whole = all(isinstance(x, int | float) and abs(checks.real(x)) < 2**53 for x in numbers) and len(numbers) == 2
    if not whole or not numbers[0] < numbers[1] or len(choices) > 3 or (len(choices) == 3 and choices[2] != "log"):
        raise ValueError(
            f"tune expects for {name} a list of values, or a range (low, high) or (low, high, 'log') of numbers with "
            f"low < high, got {shown(choices)}"
        )
    if len(choices) == 3 and not numbers[0] > 0:
        raise ValueError(f"tune expects a range on a logarithmic scale to lie above 0, got {name}: {shown(choices)}")


def _result(search: _Search, trials: Sequence[Any]) -> Tuned:
    import pandas as pd

    space = search.space
    complete = [trial for trial in trials if trial.value is not None]
    if not complete:
        raise ValueError(
            f"no trial was valid, expected at least one; the error of the first: {trials[0].user_attrs['error']}"
        )
    best = min(complete, key=lambda trial: float(trial.value))
    params = _applicable(search.adapter, space.read(best.params))
    rows = []
    for number, trial in enumerate(trials):
        refused = "error" in trial.user_attrs
        drawn = space.read(trial.params)
        rows.append({
            "trial": number,
            "state": "refused" if refused else "complete",
            "loss": trial.value,
            "error": trial.user_attrs.get("error"),
            **(drawn if refused else _applicable(search.adapter, drawn)),
        })  # fmt: skip
    return Tuned(
        adapter=_with(search.adapter, params), params=params, loss=float(best.value),
        frozen_loss=float(best.user_attrs["frozen_loss"]), trials=pd.DataFrame(rows),
    )  # fmt: skip


def _fingerprint(adapter: Adapter, dataset: Dataset, borders: tuple[int, int] | None, space: _Space) -> dict[str, Any]:
    r"""Return everything that determines the trials, as JSON values; of the data, the rows before calibration."""
    borders = borders or dataset.borders
    splits = split_panel(dataset.panel, borders=borders, fractions=adapter.splits)
    stops = [stop for _, stop in splits["validation"].ranges]
    options = {name: _label(x) for name, x in adapter.get_params(deep=False).items() if name != "device"}
    return {
        "versions": {"adapts": __version__},
        "data": {
            "sha256": rows_digest(dataset.panel, stops),
            **dataset.panel.roles(),
        },
        "option": {**options, "family": repr(adapter.family)},
        "space": {name: _label(list(choices)) for name, choices in space.choices.items()},
    }


def _label(value: Any) -> str:
    r"""Return a value as text, the same in every process."""
    return json.dumps(value, sort_keys=True, default=lambda x: x.item() if isinstance(x, np.generic) else _kind(x))


def _kind(value: Any) -> str:
    return str(value) if isinstance(value, Path) else " ".join(repr(value).split())


def _in_recipe(name: str) -> bool:
    return name == "family" or name.startswith("family__") or name in TRAINING


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ValueError("tune needs Optuna: pip install 'adapts[tune]'") from error
    return optuna
