r"""`adapts backtest`: models beside baselines, on rows held back."""

from __future__ import annotations

__all__ = ["EXAMPLES", "WRITTEN", "backtest", "draw_reliability", "held_back", "say_held_back"]

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import shown
from ..persistence.ownership import BACKTEST, replaced
from . import options as o
from .progress import FIT, Progress
from .run import adapter_of, add, data_of, draw, hand_over, report, require_place, scores_of, unsaid

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
    prediction_length: Annotated[int, typer.Option(min=1, help="How many steps to forecast.")],
    output: Annotated[Path | None, typer.Option(help="The folder to write, if any.")] = None,
    windows: Annotated[
        int | None,
        typer.Option(min=1, help="How many origins; by default what the last fifth or the card's test rows hold."),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The rows from one origin to the next; by default about the prediction length, without a common "
            "factor with the season.",
        ),
    ] = None,
    scale: Annotated[
        str, typer.Option(help="What divides the scores: train, the standard deviation of the train rows, or none.")
    ] = "train",
    baselines: Annotated[
        list[str] | None,
        typer.Option(
            help="Baselines, separated by commas: frozen-model, last-value, seasonal-naive (these by default), drift, "
            "nlinear, var; all or none."
        ),
    ] = None,
    refit: Annotated[bool, typer.Option("--refit", help="Fit anew before each origin.")] = False,
    family: Annotated[list[str] | None, typer.Option(show_default="residual", **o.FAMILY)] = None,
    recipe: Annotated[list[Path] | None, typer.Option(help="A recipe of your own (YAML).", **o.RECIPE)] = None,
    option: o.Option = None,
    foundation_model: o.FoundationModel = "bolt-nano",
    context_length: o.ContextLength = None,
    objective: o.Objective = None,
    horizon_weights: o.HorizonWeights = None,
    learning_rate: o.LearningRate = None,
    posterior_draws: o.PosteriorDraws = 20,
    probe_head: o.ProbeHead = None,
    max_windows: o.MaxWindows = 1000,
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
    checkpoint_dir: o.CheckpointDir = None,
    overwrite: o.Overwrite = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    r"""Score models on held-back rows of DATA beside the frozen model and baselines, at rolling origins.

    Each model is fitted once before the rows held back (a card's test rows, or the last fifth). The table is printed,
    and below it by how much the CRPS of each model differs from the frozen model's. With --output, scores.csv,
    scores.json, scores_by_lead.png and reliability.png are written, all at once at the end.

    --family and --recipe may be repeated: each is a model of the table, under its name.
    """  # noqa: DOC501
    from .._logging import set_verbosity

    if verbose:
        set_verbosity("info")
    recipes: dict[str, str | Path] = {}
    for each in [*(family or ()), *(recipe or ())]:
        name = each.stem if isinstance(each, Path) else each
        if name in recipes:
            raise ValueError(f"two models are called {shown(name)}: name each family once, and no recipe as a family")
        recipes[name] = each
    if len(recipes) > 1 and option:
        raise ValueError("--option is of one family, and several models are asked for: give each a recipe of its own")
    if output is None and overwrite:
        raise ValueError("--overwrite replaces the folder of --output, and none is named")
    if output is not None:
        kept = [] if checkpoint_dir is None else [checkpoint_dir]
        require_place(output, BACKTEST, [data, *(recipe or ())], kept, overwrite=overwrite)
    asked = o.asked(context)
    with Progress(None, shown=not (quiet or verbose)) as progress, unsaid():
        content, table, about = _score(
            asked, recipes or {"residual": "residual"}, output, checkpoint_dir, progress, overwrite=overwrite
        )
    paths = [] if output is None else [output / name for name in WRITTEN]
    lines = [table] if quiet else [table, about, *([f"Written: {', '.join(map(str, paths))}"] if paths else [])]
    several = len(content["notices"]) > 1
    notes = [
        f"{name}: {notice['said']}" if several else notice["said"]
        for name, told in content["notices"].items()
        for notice in told
    ]
    hand_over(content, paths, as_json=as_json, lines=lines, notes=[] if quiet else notes)


def _score(
    asked: dict[str, Any],
    recipes: dict[str, str | Path],
    output: Path | None,
    checkpoint_dir: Path | None,
    progress: Progress,
    *,
    overwrite: bool,
) -> tuple[dict[str, Any], str, str]:
    r"""Scores, and writes where a folder is named; returns what scores.json holds, the table, and lines about it."""
    from ..evaluation.backtest import count_stages, roll
    from ..evaluation.plots import scores_by_lead
    from ..evaluation.tables import format_table
    from ..foundation import load_foundation_model

    progress.stage("load the foundation model")
    model = load_foundation_model(asked["foundation_model"], device=asked["device"])  # one for all
    models = {name: adapter_of(asked, recipe, model) for name, recipe in recipes.items()}
    for adapter in models.values():
        if not adapter.family.capabilities.closed_form:
            adapter.trainer_options = progress.trainer_options()
    baselines = _baselines(asked["baselines"])
    stages = count_stages(models, baselines, refit=asked["refit"])
    progress.expect(None if stages is None else stages + (FIT - 1) * len(models) + 3)
    progress.stage(f"read {asked['data']}")
    dataset = data_of(asked)
    result = roll(
        models,
        dataset,
        **{name: asked[name] for name in ("windows", "stride", "scale", "refit", "num_samples", "seed")},
        baselines=baselines,
        checkpoint_dir=checkpoint_dir,
        on_progress=lambda stage: progress.stage(stage, FIT if stage.startswith("fit") else 1),
    )
    compared = FROZEN in result.pits
    differences = result.differences(FROZEN) if compared else None
    facts = held_back(result, asked["scale"])
    content = {
        **report(asked, dataset, model),
        "held_back": facts,
        "notices": {name: adapter.summary().to_dict()["notices"] for name, adapter in result.adapters.items()},
        "scores": scores_of(result.frame),  # by model, channel, block of leads, metric
        "differences": [] if differences is None else _plain(differences),
    }
    if output is not None:
        progress.stage(f"write {output}")
        with replaced(output, BACKTEST, overwrite=overwrite) as folder:
            result.frame.to_csv(folder / "scores.csv", index=False)
            add(folder / "scores.json", content)
            draw(folder / "scores_by_lead.png", scores_by_lead(result.by_lead(), title=dataset.name))
            reliability = draw_reliability(result, [*list(models)[:3], FROZEN])  # it has four colours
            draw(folder / "reliability.png", reliability)
    about = say_held_back(facts, asked["prediction_length"])
    if differences is not None:
        about += f"\nCRPS v. {FROZEN}: below zero is better; in brackets the 90 % interval, where windows are enough."
    return content, format_table(result.frame, differences), about


def _baselines(given: Sequence[str] | None) -> bool | str | list[str]:
    r"""The baselines as `roll` takes them; the hyphens of the shell are the spaces of their names."""
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
        raise ValueError(f"--baselines none stands alone, got {given_names}: leave out none, or the others")
    if "all" in names:
        return "all"
    return [named[name] for name in names if name != "none"] or False


def held_back(result: Backtest, scale: str = "train") -> dict[str, Any]:
    r"""Tells what was held back.

    Arguments:
        result: The backtest.
        scale: What divides its scores.

    Returns:
        The facts, as JSON can hold them.
    """
    windows = result.windows
    return {
        "windows": len(windows),
        "stride": result.stride,
        "first_target": str(windows.panel.items[windows.item[0]].index[windows.origin[0]]),
        "scores_divided_by": "population standard deviation of the train rows, a channel" if scale == "train" else None,
    }


def say_held_back(facts: dict[str, Any], horizon: int) -> str:
    r"""Says the same in a sentence.

    Arguments:
        facts: What `held_back` tells.
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
    r"""The rows of a frame as JSON can hold them."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [dict(zip(map(str, plain.columns), row, strict=True)) for row in plain.itertuples(index=False)]


def draw_reliability(result: Backtest, models: Sequence[str]) -> Figure:
    r"""Draws whether models were calibrated.

    Arguments:
        result: The backtest.
        models: The models to draw; those that it did not score are left out.

    Returns:
        The figure.
    """
    from ..evaluation.plots import reliability

    return reliability({name: result.pits[name] for name in models if name in result.pits}, result.windows.time)
