r"""`adapts backtest`: scores of models and baselines on held-back rows."""

from __future__ import annotations

__all__ = ["EXAMPLES", "WRITTEN", "backtest", "describe_held_back", "draw_reliability", "held_back"]

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import shown
from ..fractions import FRACTIONS
from ..persistence.ownership import BACKTEST, replaced
from . import options as o
from .progress import FIT, Progress
from .run import (
    adapter_of,
    data_of,
    emit,
    nested_scores,
    report,
    require_output,
    save_figure,
    without_fit_warnings,
    write_json,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ..evaluation.backtest import Backtest

WRITTEN = ("scores.csv", "scores.json", "scores_by_lead.png", "reliability.png")
FROZEN = "frozen model"

EXAMPLES = """\
**Examples**

- adapts backtest greensboro --prediction-length 24

- adapts backtest greensboro --prediction-length 24 --family residual --family projection --output scores/

- adapts backtest loads.csv --prediction-length 24 --recipe mine.yaml --baselines all --windows 50 --refit
"""


def backtest(
    context: typer.Context,
    data: o.Data,
    prediction_length: Annotated[int, typer.Option(min=1, help="The number of steps to forecast.")],
    output: Annotated[Path | None, typer.Option(help="The folder to write, if any.")] = None,
    windows: Annotated[
        int | None,
        typer.Option(
            min=1, help="The number of origins; by default as many as fit in the last fifth or the card's test rows."
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The number of rows between origins; by default about the prediction length, without a common "
            "factor with the season length.",
        ),
    ] = None,
    scale: Annotated[
        str, typer.Option(help="The unit of the scores: train, the standard deviation of the train rows, or none.")
    ] = "train",
    baselines: Annotated[
        list[str] | None,
        typer.Option(
            help="Baselines, comma-separated: frozen-model, last-value, seasonal-naive (by default these), "
            "joint-frozen-model (by default, where the model has a joint mode), drift, nlinear, dlinear, var; all or "
            "none."
        ),
    ] = None,
    refit: Annotated[bool, typer.Option("--refit", help="Refit before each origin.")] = False,
    family: Annotated[list[str] | None, typer.Option(show_default="auto", **o.FAMILY)] = None,
    recipe: Annotated[list[Path] | None, typer.Option(help="The file of a custom recipe (YAML).", **o.RECIPE)] = None,
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
    r"""Score models, the frozen model and baselines on held-back rows of DATA, at rolling origins.

    Each model is fitted once on the rows before the held-back rows (a card's test rows, or the last fifth). The command
    prints the scores, and the difference in CRPS between each model and the frozen model. With --output, it writes
    scores.csv, scores.json, scores_by_lead.png and reliability.png, all at once at the end.

    --family and --recipe may be repeated: each adds a model to the table, under its name.
    """  # noqa: DOC501
    from .._logging import set_verbosity

    if verbose:
        set_verbosity("info")
    recipes: dict[str, str | Path] = {}
    for model in [*(family or ()), *(recipe or ())]:
        name = model.stem if isinstance(model, Path) else model
        if name in recipes:
            raise ValueError(
                f"two models are called {shown(name)}: pass each family once, and rename recipes called like a family"
            )
        recipes[name] = model
    if len(recipes) > 1 and option:
        raise ValueError("--option applies to one family, got several models: pass each as a recipe of its own")
    if output is None and overwrite:
        raise ValueError("--overwrite replaces the folder of --output, got no --output: pass both, or neither")
    if output is not None:
        checkpoints = [] if checkpoint_dir is None else [checkpoint_dir]
        require_output(output, BACKTEST, [data, *(recipe or ())], checkpoints, overwrite=overwrite)
    arguments = o.arguments_of(context)
    with Progress(None, shown=not (quiet or verbose)) as progress, without_fit_warnings():
        content, table, summary = _score(
            arguments, recipes or {"auto": "auto"}, output, checkpoint_dir, progress, overwrite=overwrite
        )
    paths = [] if output is None else [output / name for name in WRITTEN]
    lines = [table] if quiet else [table, summary, *([f"Written: {', '.join(map(str, paths))}"] if paths else [])]
    several = len(content["notices"]) > 1
    notes = [
        f"{name}: {notice['said']}" if several else notice["said"]
        for name, notices in content["notices"].items()
        for notice in notices
    ]
    emit(content, paths, as_json=as_json, lines=lines, notes=[] if quiet else notes)


def _score(
    arguments: dict[str, Any],
    recipes: dict[str, str | Path],
    output: Path | None,
    checkpoint_dir: Path | None,
    progress: Progress,
    *,
    overwrite: bool,
) -> tuple[dict[str, Any], str, str]:
    r"""Run the backtest and write any output; return the content of scores.json, the table and a summary."""
    from ..evaluation.backtest import count_stages, roll
    from ..evaluation.plots import scores_by_lead
    from ..evaluation.tables import format_table
    from ..foundation.several import load_models

    progress.stage("load the foundation model")
    model = load_models(arguments["foundation_model"], arguments["device"])  # shared by all models
    models = {name: adapter_of(arguments, recipe, model) for name, recipe in recipes.items()}
    for adapter in models.values():
        if not adapter.family.capabilities.closed_form:
            adapter.trainer_options = progress.trainer_options()
    baselines = _baselines(arguments["baselines"])
    stages = count_stages(models, baselines, refit=arguments["refit"])
    progress.set_total(None if stages is None else stages + (FIT - 1) * len(models) + 3)
    progress.stage(f"read {arguments['data']}")
    dataset = data_of(arguments)
    result = roll(
        models,
        dataset,
        **{
            name: arguments[name]
            for name in ("windows", "stride", "scale", "refit", "num_samples", "seed", "time_limit")
        },
        baselines=baselines,
        checkpoint_dir=checkpoint_dir,
        on_progress=lambda stage: progress.stage(stage, FIT if stage.startswith("fit") else 1),
    )
    has_frozen = FROZEN in result.pits
    differences = result.differences(FROZEN) if has_frozen else None
    facts = held_back(result, arguments["scale"])
    content = {
        **report(arguments, dataset, model),
        "held_back": facts,
        "notices": {name: adapter.summary().to_dict()["notices"] for name, adapter in result.adapters.items()},
        "scores": nested_scores(result.frame),  # by model, channel, block of leads, metric
        "differences": [] if differences is None else _plain(differences),
    }
    if output is not None:
        progress.stage(f"write {output}")
        with replaced(output, BACKTEST, overwrite=overwrite) as folder:
            result.frame.to_csv(folder / "scores.csv", index=False)
            write_json(folder / "scores.json", content)
            save_figure(folder / "scores_by_lead.png", scores_by_lead(result.by_lead(), title=dataset.name))
            reliability = draw_reliability(result, [*list(models)[:3], FROZEN])  # the plot has four colours
            save_figure(folder / "reliability.png", reliability)
    summary = describe_held_back(facts, arguments["prediction_length"])
    if differences is not None:
        summary += (
            f"\nCRPS v. {FROZEN}: below zero is better; in brackets the 90 % interval, if there are enough windows."
        )
    return content, format_table(result.frame, differences), summary


def _baselines(given: Sequence[str] | None) -> bool | str | list[str]:
    r"""Return the baselines as `roll` accepts them, with spaces in place of hyphens."""
    from ..errors import unknown
    from ..evaluation.backtest import ALL_BASELINES

    if given is None:
        return True
    named = {name.replace(" ", "-"): name for name in ALL_BASELINES}
    names = [name.strip().replace(" ", "-") for text in given for name in text.split(",")]
    for name in names:
        if name not in (*named, "all", "none"):
            raise unknown("baseline", name, (*named, "all", "none"))
    if "none" in names and set(names) != {"none"}:
        given_names = ",".join(names)[:100]
        raise ValueError(f"--baselines none excludes all others, got {given_names}: leave out none, or the others")
    if "all" in names:
        return "all"
    return [named[name] for name in names if name != "none"] or False


def held_back(result: Backtest, scale: str = "train") -> dict[str, Any]:
    r"""Describe the held-back windows.

    Arguments:
        result: The backtest.
        scale: The unit of its scores.

    Returns:
        The description, of JSON values.
    """
    windows = result.windows
    return {
        "windows": len(windows),
        "stride": result.stride,
        "first_target": str(windows.panel.items[windows.item[0]].index[windows.origin[0]]),
        "scores_divided_by": "population standard deviation of the train rows, a channel" if scale == "train" else None,
    }


def describe_held_back(facts: dict[str, Any], horizon: int) -> str:
    r"""Format the description of the held-back windows as a sentence.

    Arguments:
        facts: The description from `held_back`.
        horizon: The number of steps of a window.

    Returns:
        The sentence.
    """
    divided = "scores are divided by the standard deviation of the train rows"
    return (
        f"{facts['windows']} windows of {horizon} steps held back, from {facts['first_target']} on; "
        f"{divided if facts['scores_divided_by'] else 'scores are in the units of the channels'}."
    )


def _plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    r"""Return the rows of a frame as JSON values."""
    records = frame.astype(object).where(frame.notna(), None)
    return [dict(zip(map(str, records.columns), row, strict=True)) for row in records.itertuples(index=False)]


def draw_reliability(result: Backtest, models: Sequence[str]) -> Figure:
    r"""Plot the calibration of models.

    Arguments:
        result: The backtest.
        models: The models to plot; those without scores are left out.

    Returns:
        The figure.
    """
    from ..evaluation.plots import reliability

    return reliability({name: result.pits[name] for name in models if name in result.pits}, result.windows.time)
