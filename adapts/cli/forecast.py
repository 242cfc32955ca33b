r"""`adapts forecast`: forecasts, scores and plots of a file."""

from __future__ import annotations

__all__ = ["EXAMPLES", "WRITTEN", "forecast"]

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..fractions import FRACTIONS
from ..persistence import ownership
from ..persistence.ownership import RUN, replaced
from . import options as o
from .backtest import describe_held_back, draw_reliability, held_back
from .progress import FIT, Progress
from .run import (
    READING,
    adapter_of,
    data_of,
    emit,
    nested_scores,
    reading_of,
    report,
    require_output,
    save_figure,
    without_fit_warnings,
    write_json,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ..adapter import Adapter
    from ..data.cards import Dataset
    from ..evaluation.backtest import Backtest
    from ..forecast.forecast import Forecast

CSV_LEVELS = tuple(round(0.05 * step, 2) for step in range(1, 20))
WRITTEN = ("forecast.csv", "scores.json", "forecast.png", "reliability.png", "adapter")
PREDICTED = ("forecast.csv", "forecast.png")  # the output of --from
HELD_BACK, ALL_ROWS = "held back", "all rows"  # the checkpoint folders of the two fits

# Options of a fit, or of covariates, which --zero-shot rejects.
_OF_FIT = ("family", "recipe", "option", "objective", "horizon_weights", "learning_rate", "posterior_draws",
           "recalibration", "gate", "probe_head", "splits", "max_windows", "past_covariates", "known_covariates",
           "calendar", "static", "future", "num_samples", "time_limit", "checkpoint_dir")  # fmt: skip
# Options that a saved adapter determines, which --from rejects.
_SAVED = ("family", "recipe", "option", "context_length", "objective", "horizon_weights",
          "learning_rate", "posterior_draws", "copula", "recalibration", "gate", "support",
          "probe_head", "splits", "max_windows", "columns", "past_covariates", "known_covariates", "calendar", "static",
          "num_samples", "seed", "time_limit", "checkpoint_dir")  # fmt: skip

EXAMPLES = """\
**Examples**

- adapts forecast greensboro --prediction-length 24 --output run/

- adapts forecast loads.csv --prediction-length 24 --output run/ --columns north,south --support 0,

- adapts forecast loads.csv --prediction-length 24 --output run/ --family linear --option latent_channels=3

- adapts forecast newer.csv --from run/adapter --output tomorrow/

- adapts forecast loads.csv --prediction-length 24 --zero-shot --output quick/

- adapts forecast sales.csv --prediction-length 14 --output run/ --known-covariates price --future prices.csv --calendar
"""


def forecast(
    context: typer.Context,
    data: o.Data,
    output: Annotated[Path, typer.Option(help="The folder to write.")],
    prediction_length: Annotated[
        int | None, typer.Option(min=1, help="The number of steps to forecast; with --from, that of the saved adapter.")
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FOLDER", help="Forecast with a saved adapter, such as run/adapter, without a fit."
        ),
    ] = None,
    zero_shot: Annotated[
        bool, typer.Option("--zero-shot", help="Forecast with the frozen model alone, without a fit or scores.")
    ] = False,
    family: Annotated[str, typer.Option(**o.FAMILY)] = "auto",
    recipe: Annotated[Path | None, typer.Option(help="The file of a custom recipe (YAML).", **o.RECIPE)] = None,
    option: o.Option = None,
    foundation_model: o.FoundationModel = "bolt-nano",
    context_length: o.ContextLength = None,
    objective: o.Objective = None,
    horizon_weights: o.HorizonWeights = None,
    learning_rate: o.LearningRate = None,
    posterior_draws: o.PosteriorDraws = 20,
    probe_head: o.ProbeHead = None,
    splits: o.Splits = FRACTIONS,
    max_windows: o.MaxWindows = None,
    columns: o.Columns = None,
    past_covariates: o.PastCovariates = None,
    known_covariates: o.KnownCovariates = None,
    calendar: o.Calendar = False,
    static: o.Static = None,
    future: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The file of the known covariates at the prediction steps.", rich_help_panel=o.READING
        ),
    ] = None,
    timestamp_column: o.TimestampColumn = None,
    item_column: o.ItemColumn = None,
    frequency: o.Frequency = None,
    regularise: o.Regularise = False,
    copula: o.Copula = "residual",
    recalibration: o.Recalibration = "auto",
    gate: o.Gate = True,
    support: o.Support = None,
    num_samples: o.NumSamples = 200,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    time_limit: o.TimeLimit = None,
    checkpoint_dir: o.CheckpointDir = None,
    overwrite: o.Overwrite = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    r"""Forecast the steps after the last row of DATA, and score such forecasts on held-back rows.

    An adapter is fitted on the rows before the held-back rows (a card's test rows, or the last fifth). The command
    scores it, the frozen model, the last value and the seasonal naive on these. A second adapter is fitted on all rows
    and makes the forecast; of the family auto, it has the weights that the first one selected. The command writes
    forecast.csv, scores.json, forecast.png, reliability.png and the adapter, all at once at the end.

    With --from, a saved adapter makes the forecast, and the command writes forecast.csv and forecast.png. So does the
    frozen model with --zero-shot; its forecast is not calibrated.
    """  # noqa: DOC501
    from .._logging import set_verbosity

    if verbose:
        set_verbosity("info")
    if from_ is not None:
        _refuse(context, ("zero_shot", *_SAVED), "--from forecasts with an adapter as it was saved")
    elif zero_shot:
        refused = [name for name in _OF_FIT if name != "family" or family != "identity"]
        _refuse(context, refused, "--zero-shot forecasts with the frozen model alone")
    if from_ is None and prediction_length is None:
        raise ValueError("a forecast needs --prediction-length, the number of steps to forecast, or --from RUN/adapter")
    if from_ is None and (known_covariates is None) != (future is None):
        raise ValueError(
            "--known-covariates names the columns and --future the file of their future values: pass both, or neither"
        )
    if recipe is not None and o.was_given(context, "family"):
        raise ValueError("--family names a preset and --recipe the file of a custom recipe: give one of them")
    fits = from_ is None and not zero_shot
    written = WRITTEN if fits else PREDICTED
    checkpoints = [] if checkpoint_dir is None else [checkpoint_dir / name for name in (HELD_BACK, ALL_ROWS)]
    kind = RUN if fits else ownership.PREDICTED
    require_output(output, kind, [data, recipe, from_, future], checkpoints, overwrite=overwrite)
    arguments = o.arguments_of(context)
    with Progress(2 * FIT + 8, shown=not (quiet or verbose)) as progress, without_fit_warnings():
        if fits:
            content, table, summary = _fit(
                arguments, recipe or family, output, checkpoint_dir, progress, overwrite=overwrite
            )
        elif from_ is None:
            content, table, summary = _zero_shot(arguments, output, progress, overwrite=overwrite)
        else:
            model = foundation_model if o.was_given(context, "foundation_model") else None
            content, table, summary = _predict(arguments, from_, model, output, progress, overwrite=overwrite)
    paths = [output / name for name in written]
    lines = [table] if quiet else [table, summary, f"Written: {', '.join(map(str, paths))}"]
    notes = [notice["said"] for notice in content["adapter"]["notices"]]
    emit(content, paths, as_json=as_json, lines=lines, notes=[] if quiet else notes)


def _refuse(context: typer.Context, names: Iterable[str], what: str) -> None:
    r"""Raise an error if one of the options was given."""
    for name in names:
        if o.was_given(context, name):
            typed = f"--{'no-' if context.params[name] is False else ''}{name.replace('_', '-')}"
            raise ValueError(f"{what}, and takes no {typed}: leave it out")


def _fit(
    arguments: dict[str, Any],
    recipe: str | Path,
    output: Path,
    checkpoint_dir: Path | None,
    progress: Progress,
    *,
    overwrite: bool,
) -> tuple[dict[str, Any], str, str]:
    r"""Fit, score, refit on all rows and write the output; return scores.json, the table and a summary."""
    from ..evaluation.backtest import roll
    from ..evaluation.tables import format_table
    from ..persistence import saving

    progress.stage("load the foundation model")
    adapter = adapter_of(arguments, recipe)
    if not adapter.family.capabilities.closed_form:
        adapter.trainer_options = progress.trainer_options()
    progress.stage(f"read {arguments['data']}")
    dataset = data_of(arguments)
    result = roll(
        adapter,
        dataset,
        num_samples=arguments["num_samples"],
        seed=arguments["seed"],
        time_limit=arguments["time_limit"],
        checkpoint_dir=None if checkpoint_dir is None else checkpoint_dir / HELD_BACK,
        on_progress=lambda stage: progress.stage(f"held back: {stage}", FIT if stage == "fit" else 1),
    )
    progress.stage("fit on all rows", FIT)
    checkpoints = None if checkpoint_dir is None else checkpoint_dir / ALL_ROWS
    adapter = _with_selection(adapter, result.adapter)
    adapter.fit(
        replace(dataset, borders=None, end=None), checkpoint_dir=checkpoints, time_limit=arguments["time_limit"]
    )
    progress.stage("forecast")
    forecasts = _as_list(adapter.predict(**_ahead(arguments)))
    progress.stage(f"write {output}")
    facts = held_back(result)
    content = {
        **report(arguments, dataset, adapter.model),
        "held_back": {**facts, "adapter": result.adapter.summary().to_dict()},
        "adapter": adapter.summary().to_dict(),
        "scores": nested_scores(result.frame),  # by model, channel, block of leads, metric
    }
    with replaced(output, RUN, overwrite=overwrite) as folder:
        _table(forecasts).to_csv(folder / "forecast.csv", index=False)
        write_json(folder / "scores.json", content)
        save_figure(folder / "forecast.png", _draw_both(dataset, result, forecasts))
        save_figure(folder / "reliability.png", draw_reliability(result, ("adapter", "frozen model")))
        saving.write(adapter.require_fitted("save"), adapter, folder / "adapter")
    return content, format_table(result.frame), describe_held_back(facts, adapter.prediction_length)


def _with_selection(adapter: Adapter, held_back: Adapter) -> Adapter:
    r"""Return the adapter to fit on all rows: a portfolio with the weights that the held-back fit selected."""
    from ..adapters import Portfolio

    portfolio = held_back.require_fitted("forecast").module
    if not isinstance(portfolio, Portfolio):
        return adapter
    return adapter.clone().set_params(family=portfolio.with_its_weights)


def _predict(
    arguments: dict[str, Any], saved: Path, model: str | None, output: Path, progress: Progress, *, overwrite: bool
) -> tuple[dict[str, Any], str, str]:
    r"""Forecast with a saved adapter and write the output; return the result, no table and a summary."""
    from ..adapter import Adapter
    from ..persistence.saving import load

    def call(name: str) -> str:
        return f"--from {saved} --foundation-model {name}"

    progress.stage(f"load {saved}")
    adapter = load(Adapter, saved, foundation_model=model, device=arguments["device"], call=call)
    length = arguments["prediction_length"]
    if length not in (None, adapter.prediction_length):
        raise ValueError(
            f"{saved} was fitted to forecast {adapter.prediction_length} steps, got --prediction-length {length}: "
            "leave it out, or fit another adapter"
        )
    progress.stage(f"read {arguments['data']}")
    arguments = {name: arguments[name] for name in ("data", "from", "future", *READING)}
    dataset = data_of(arguments, adapter)
    progress.stage("forecast", 2 * FIT)
    forecasts = _as_list(adapter.predict(dataset, **_ahead(arguments)))
    progress.stage(f"write {output}")
    summary = _write_forecasts(dataset, forecasts, output, overwrite=overwrite)
    return {**report(arguments, dataset, adapter.model), "adapter": adapter.summary().to_dict()}, "", summary


def _zero_shot(
    arguments: dict[str, Any], output: Path, progress: Progress, *, overwrite: bool
) -> tuple[dict[str, Any], str, str]:
    r"""Forecast without a fit and write the output; return the result, no table and a summary."""
    progress.stage("load the foundation model")
    adapter = adapter_of(arguments, "identity")
    progress.stage(f"read {arguments['data']}")
    dataset = data_of(arguments)
    progress.stage("forecast", 2 * FIT)
    forecasts = _as_list(adapter.predict(dataset))
    progress.stage(f"write {output}")
    summary = _write_forecasts(dataset, forecasts, output, overwrite=overwrite)
    arguments = {name: value for name, value in arguments.items() if name not in (*_OF_FIT, "from")}
    notices = [{**asdict(notice), "about": list(notice.about)} for notice in forecasts[0].notices]
    content = {**report(arguments, dataset, adapter.model), "adapter": {"family": "identity", "notices": notices}}
    return content, "", summary


def _write_forecasts(dataset: Dataset, forecasts: list[Forecast], output: Path, *, overwrite: bool) -> str:
    r"""Write the table and the plot of forecasts alone; return a summary."""
    from ..evaluation.plots import Fan, fan_chart

    with replaced(output, ownership.PREDICTED, overwrite=overwrite) as folder:
        _table(forecasts).to_csv(folder / "forecast.csv", index=False)
        fan = Fan("forecast", forecasts[0].index, forecasts[0].joint_distribution)
        observed = _observed(dataset, 4 * len(fan.index))
        save_figure(folder / "forecast.png", fan_chart(observed, [fan], title=_title(dataset), notes=_notes(forecasts)))
    return f"{len(fan.index)} steps from {fan.index[0]} on."


def _ahead(arguments: dict[str, Any]) -> dict[str, Any]:
    r"""Return the options of `predict` for future covariates."""
    if arguments["future"] is None:
        return {}
    return {
        "future": arguments["future"],
        **{name: reading_of(arguments)[name] for name in ("item_column", "timestamp_column")},
    }


def _as_list(predicted: Forecast | list[Forecast]) -> list[Forecast]:
    return predicted if isinstance(predicted, list) else [predicted]


def _table(forecasts: list[Forecast]) -> pd.DataFrame:
    r"""Return the forecasts as rows of the CSV, whose numbers are read back exactly."""
    import pandas as pd

    tables: list[pd.DataFrame] = [forecast.to_pandas(quantile_levels=CSV_LEVELS) for forecast in forecasts]
    return pd.concat(tables, ignore_index=True)


def _draw_both(dataset: Dataset, result: Backtest, forecasts: list[Forecast]) -> Figure:
    r"""Plot the forecasts of the first item: of its last steps, held back, and of the steps after its end."""
    import numpy as np

    from ..data.windows import Windows
    from ..evaluation.plots import Fan, fan_chart

    item, horizon = dataset.panel.items[0], result.adapter.prediction_length
    origin = len(item) - horizon
    last = Windows(dataset.panel, np.array([0]), np.array([origin]), result.adapter.context_length_, horizon)
    fans = [
        Fan("forecast of the last rows, held back", item.index[origin:], result.adapter.joint_distribution(last)),
        Fan("forecast", forecasts[0].index, forecasts[0].joint_distribution),
    ]
    return fan_chart(_observed(dataset, 4 * horizon), fans, title=_title(dataset), notes=_notes(forecasts))


def _notes(forecasts: list[Forecast]) -> list[str]:
    r"""Return the notices of the fit as sentences."""
    return [notice.said for notice in forecasts[0].notices]


def _observed(dataset: Dataset, rows: int) -> pd.DataFrame:
    r"""Return the last rows of the first item."""
    import pandas as pd

    panel = dataset.panel.select(dataset.panel.targets)
    return pd.DataFrame(panel.items[0].values[-rows:], panel.items[0].index[-rows:], list(panel.channels))


def _title(dataset: Dataset) -> str:
    items = dataset.panel.items
    return dataset.name if len(items) == 1 else f"{dataset.name}, item {items[0].item_id} of {len(items)} items"
