r"""The command line: `adapts forecast` does the main job, `adapts list` tells what there is."""

from __future__ import annotations

__all__ = ["app", "main"]

import hashlib
import json
import logging
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import __version__

# Whatever needs torch is imported when a command runs, so that help comes at once.
if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from .adapter import Adapter
    from .distribution.forecast import Forecast
    from .evaluation.backtest import Backtest
    from .readers import Dataset

CSV_LEVELS = tuple(round(0.05 * step, 2) for step in range(1, 20))
WRITTEN = ("forecast.csv", "scores.json", "forecast.png", "reliability.png", "adapter")
FIT = 5  # how long a fit takes beside any other stage of a run: each of its own stages counts one
STAGES = 2 * FIT + 8
LIBRARIES = ("torch", "numpy", "pandas", "chronos-forecasting", "transformers", "scoringrules")

app = typer.Typer(
    help="Joint, calibrated multivariate forecasts from a frozen univariate foundation model.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def main() -> None:
    r"""Runs the command line."""
    app(prog_name="adapts")


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"adapts {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    r"""Takes the options that stand before a command."""


class Roster(StrEnum):
    r"""What `adapts list` can list."""

    families = "families"
    models = "models"
    datasets = "datasets"


@app.command("list")
def list_(what: Annotated[Roster, typer.Argument(help="Which roster.")]) -> None:
    r"""List the families (recipes), foundation models or data sets that can be named."""
    rows = {Roster.families: _families, Roster.models: _models, Roster.datasets: _datasets}[what]()
    wide = max(len(name) for name, _ in rows)
    for name, about in rows:
        typer.echo(f"{name.ljust(wide)}  {about}")


def _families() -> list[tuple[str, str]]:
    from .shelf import load_recipe, recipes

    return [(name, " ".join(load_recipe(name)["when"].split())) for name in recipes()]


def _models() -> list[tuple[str, str]]:
    from .foundation import foundation_models

    known = [(name, f"bundled, {path}") for name, path in foundation_models().items()]
    return [*known, ("PATH or HUB/NAME", "a Chronos-Bolt checkpoint in a folder, or on the Hugging Face hub")]


def _datasets() -> list[tuple[str, str]]:
    from .shelf import cards, load_card

    found = {name: load_card(name) for name in cards()}
    return [
        (name, f"{len(card['channels'])} channels, every {card['frequency']}; {card['source']}")
        for name, card in found.items()
    ]


@app.command(epilog="Example: adapts forecast greensboro --prediction-length 24 --output run/")
def forecast(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="A CSV or Parquet file, or the name of a card: see `adapts list datasets`."
        ),
    ],
    prediction_length: Annotated[int, typer.Option(min=1, help="How many steps to forecast.")],
    output: Annotated[Path, typer.Option(help="The folder to write.")],
    family: Annotated[str, typer.Option(help="The recipe of the adapter: see `adapts list families`.")] = "residual",
    foundation_model: Annotated[
        str, typer.Option(help="A bundled name, a folder or a hub id: see `adapts list models`.")
    ] = "bolt-nano",
    context_length: Annotated[
        int | None, typer.Option(min=1, help="How many steps a forecast looks back on; by default as the model takes.")
    ] = None,
    columns: Annotated[
        list[str] | None, typer.Option(help="The columns to forecast, separated by commas; all by default.")
    ] = None,
    timestamp_column: Annotated[str | None, typer.Option(help="The column of the dates; found by default.")] = None,
    item_column: Annotated[
        str | None, typer.Option(help="The column that tells the series of a long file apart.")
    ] = None,
    frequency: Annotated[
        str | None, typer.Option(help="The time step as pandas names it; inferred by default.")
    ] = None,
    regularise: Annotated[
        bool, typer.Option("--regularise", help="Sort the dates, merge repeated ones, put NaN where some are missing.")
    ] = False,
    num_samples: Annotated[int, typer.Option(min=2, help="How many joint samples the scores are taken on.")] = 200,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The seed of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="Where the foundation model runs: auto, cpu, cuda.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder of an earlier run.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the table alone, no progress.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell every stage, and errors in full.")] = False,
) -> None:
    r"""Forecast the steps after the last row of DATA, and score the same on rows held back.

    An adapter is fitted before the rows held back (a card's test rows, or the last fifth) and scored on them beside
    the frozen model, the last value and the seasonal naive; then another is fitted on all rows, and forecasts. Written
    are forecast.csv, scores.json, forecast.png, reliability.png and the adapter itself, all at once at the end.
    """
    settings = {
        "data": data,
        "prediction_length": prediction_length,
        "family": family,
        "foundation_model": foundation_model,
        "context_length": context_length,
        "columns": [name.strip() for names in columns for name in names.split(",")] if columns else None,
        "timestamp_column": timestamp_column,
        "item_column": item_column,
        "frequency": frequency,
        "regularise": regularise,
        "num_samples": num_samples,
        "seed": seed,
        "device": device,
    }
    with _told_plainly(verbose):
        _forecast(settings, output, overwrite=overwrite, quiet=quiet, verbose=verbose)


@contextmanager
def _told_plainly(verbose: bool) -> Iterator[None]:
    r"""Turns a caller's mistake into one line and the exit code 2; `--verbose` shows where it was found."""
    try:
        yield
    except (ValueError, OSError) as error:
        if verbose:
            import traceback

            traceback.print_exc()
        typer.echo(f"adapts: error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from None


def _forecast(settings: dict[str, Any], output: Path, *, overwrite: bool, quiet: bool, verbose: bool) -> None:
    from . import set_verbosity
    from .saving import refuse_existing, replaced

    refuse_existing(output, overwrite=overwrite)
    _refuse_foreign(output)
    if verbose:
        set_verbosity("info")
    from .adapter import Adapter
    from .evaluation.backtest import format_table, roll
    from .readers import read

    with _Progress(shown=not (quiet or verbose)) as progress:
        progress.stage("load the foundation model")
        adapter = Adapter(
            settings["family"],
            foundation_model=settings["foundation_model"],
            prediction_length=settings["prediction_length"],
            context_length=settings["context_length"],
            seed=settings["seed"],
            device=settings["device"],
        )
        adapter.model  # noqa: B018  what cannot be loaded is told before any work
        if not (verbose or adapter.family.closed_form):
            adapter.trainer_options = progress.trainer_options()
        progress.stage(f"read {settings['data']}")
        reading = ("timestamp_column", "frequency", "columns", "item_column", "regularise")
        dataset = read(settings["data"], **{name: settings[name] for name in reading})
        result = roll(
            adapter,
            dataset,
            num_samples=settings["num_samples"],
            seed=settings["seed"],
            on_progress=lambda stage: progress.stage(f"held back: {stage}", FIT if stage == "fit" else 1),
        )
        progress.stage("fit on all rows", FIT)
        adapter.fit(replace(dataset, borders=None, end=None))
        progress.stage("forecast")
        predicted = adapter.predict(num_samples=settings["num_samples"])
        forecasts = predicted if isinstance(predicted, list) else [predicted]
        progress.stage(f"write {output}")
        with replaced(output, overwrite=overwrite) as folder:
            _table(forecasts).to_csv(folder / "forecast.csv", index=False)
            report = _report(settings, dataset, result, adapter)
            (folder / "scores.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
            _draw_forecast(dataset, result, forecasts).savefig(folder / "forecast.png")
            _draw_reliability(result).savefig(folder / "reliability.png")
            adapter.save(folder / "adapter")
    typer.echo(format_table(result.frame))
    if not quiet:
        typer.echo(_closing(settings["prediction_length"], dataset, result, output))


def _refuse_foreign(output: Path) -> None:
    r"""Refuses to replace a folder that holds anything but what an earlier run wrote, such as the working directory."""
    if output.is_dir():
        foreign = sorted(path.name for path in output.iterdir() if path.name not in WRITTEN)
        if foreign:
            raise ValueError(
                f"--overwrite would replace the whole folder {output}, and {foreign[0]!r} in it is nothing that adapts "
                "wrote: name another folder"
            )


def _table(forecasts: list[Forecast]) -> pd.DataFrame:
    import pandas as pd

    tables: list[pd.DataFrame] = [forecast.to_pandas(quantile_levels=CSV_LEVELS) for forecast in forecasts]
    return pd.concat(tables, ignore_index=True)


def _report(settings: dict[str, Any], dataset: Dataset, result: Backtest, adapter: Adapter) -> dict[str, Any]:
    r"""All that scores.json holds: nothing in it differs between two runs of the same settings and software."""
    panel, windows = dataset.panel, result.windows
    scores: dict[str, Any] = {}
    for model, channel, lead_block, metric, value in result.frame.itertuples(index=False):
        block = scores.setdefault(model, {}).setdefault(channel, {}).setdefault(lead_block, {})
        block[metric] = value if math.isfinite(value) else None
    return {
        "settings": settings,
        "seed": settings["seed"],
        "data": {
            "name": dataset.name,
            "sha256": _fingerprint(settings["data"], dataset.name),
            "items": len(panel),
            "rows": sum(panel.lengths),
            "channels": list(panel.channels),
            "frequency": panel.frequency,
        },
        "versions": {
            "adapts": __version__,
            "python": sys.version.split()[0],
            **{name: version(name) for name in LIBRARIES},
            "foundation_model": adapter.model.fingerprint(),
        },
        "held_back": {
            "windows": len(windows),
            "stride": result.stride,
            "first_target": str(panel.items[windows.item[0]].index[windows.origin[0]]),
            "scores_divided_by": "population standard deviation of the train rows, a channel",
            "adapter": result.adapter.summary().to_dict(),
        },
        "adapter": adapter.summary().to_dict(),
        "scores": scores,  # by model, channel, block of leads, metric
    }


def _fingerprint(data: str, name: str) -> str | list[str]:
    r"""The sha256 of a file; for a card those of the files that it accepts, one of which its reader found."""
    from .shelf import load_card

    path = Path(data)
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    accepted: list[str] = load_card(name)["sha256"]
    return accepted


def _draw_forecast(dataset: Dataset, result: Backtest, forecasts: list[Forecast]) -> Figure:
    r"""The fan chart of the first item: the last steps seen, forecast while held back, and those after the end."""
    import numpy as np
    import pandas as pd

    from .evaluation.plots import Fan, fan_chart
    from .windows import Windows

    item, horizon = dataset.panel.items[0], result.adapter.prediction_length
    origin = len(item) - horizon
    last = Windows(dataset.panel, np.array([0]), np.array([origin]), result.adapter.context_length_, horizon)
    fans = [
        Fan("forecast of the last rows, held back", item.index[origin:], result.adapter.law(last)),
        Fan("forecast", forecasts[0].index, forecasts[0].law),
    ]
    start = max(0, origin - 3 * horizon)
    observed = pd.DataFrame(item.values[start:], item.index[start:], list(dataset.panel.channels))
    title = dataset.name if len(forecasts) == 1 else f"{dataset.name}, item {item.item_id} of {len(forecasts)} items"
    return fan_chart(observed, fans, title=title)


def _draw_reliability(result: Backtest) -> Figure:
    from .evaluation.plots import reliability

    return reliability({name: result.pits[name] for name in ("adapter", "frozen model")}, result.windows.origin)


def _closing(horizon: int, dataset: Dataset, result: Backtest, output: Path) -> str:
    windows = result.windows
    first = dataset.panel.items[windows.item[0]].index[windows.origin[0]]
    return (
        f"{len(windows)} windows of {horizon} steps held back, from {first} on; scores are divided by the standard "
        f"deviation of the train rows.\nWritten: {', '.join(str(output / name) for name in WRITTEN)}"
    )


class _Progress(logging.Handler):
    r"""A bar over the stages of a run; inside a fit it moves with what the fit logs, and with epochs of training."""

    def __init__(self, *, shown: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        super().__init__(logging.INFO)
        columns = (SpinnerColumn(), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        console = Console(stderr=True)
        self.shown = shown and console.is_terminal
        self.bar = Progress(*columns, console=console, transient=True, disable=not self.shown)
        self.task = self.bar.add_task("", total=STAGES)
        self.begun = self.end = 0.0
        self.name_of_stage = ""
        self.fitting = logging.getLogger("adapts.fitting")

    def __enter__(self) -> _Progress:
        self.bar.start()
        if self.shown:
            self.before = self.fitting.level, self.fitting.propagate
            self.fitting.setLevel(logging.INFO)
            self.fitting.propagate = False
            self.fitting.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
        if self.shown:
            self.fitting.removeHandler(self)
            self.fitting.setLevel(self.before[0])
            self.fitting.propagate = self.before[1]

    def stage(self, name: str, weight: int = 1) -> None:
        r"""Begins a stage; the one before it is done."""
        self.begun, self.end, self.name_of_stage = self.end, self.end + weight, name
        self.bar.update(self.task, description=name, completed=self.begun)

    def emit(self, record: logging.LogRecord) -> None:
        r"""Moves on by one of the stages of a fit, which logs each that is done."""
        self.begun = min(self.begun + 1, self.end)
        self.bar.update(self.task, description=self.name_of_stage, completed=self.begun)

    def trainer_options(self) -> dict[str, Any]:
        r"""Options by which Lightning tells this bar, instead of one of its own, how far training has come."""
        from lightning.pytorch import Callback, LightningModule, Trainer

        progress = self

        class Tell(Callback):
            def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
                share = trainer.global_step / max(1.0, float(trainer.estimated_stepping_batches))
                about = f"{progress.name_of_stage}: epoch {trainer.current_epoch + 1}"
                progress.bar.update(progress.task, description=about, completed=progress.begun + min(1.0, share))

        return {"enable_progress_bar": False, "callbacks": [Tell()]}
