r"""Scores frozen foundation models, zero-shot, on the shared data sets beside three baselines.

Each channel is a series of its own. The conventional borders and windows hold: the scale is the population standard
deviation of the train rows, targets lie in the part scored, contexts look back over the border.

    python -m benchmarks.foundation.zero_shot --output scores.csv            # every set, bolt-nano
    python -m benchmarks.foundation.zero_shot --model DIRECTORY --part validation --sets ETTh1 Illness
    python -m benchmarks.foundation.zero_shot --card                         # writes the scores into bolt-nano's card

One row a data set and model: MSE of the median and of the mean, MAE of the median, WQL (mean of twice the pinball loss
over the deciles, in train scales), the ratio of WQL to the better naive's MAE, coverage of the 80 % interval, and what
produced them.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chronos
import numpy as np
import torch
import transformers
from torch import Tensor

from adapts.distribution.quantile_function import QuantileFunction
from adapts.foundation.chronos import ChronosBolt, from_directory
from benchmarks.provenance import commit, named

LEVELS = torch.arange(1, 10) / 10
CONTEXT = 504
BUNDLED = Path(__file__).resolve().parents[2] / "adapts" / "foundation" / "bolt_nano"
ERRORS = ("mse", "mse_of_mean", "mae", "wql")


@dataclass(frozen=True)
class Source:
    r"""A data set as the benchmark reads it.

    Arguments:
        file: The CSV in $ADAPTS_DATA.
        borders: Rows where the train, validation and test parts end.
        season: The seasonal naive's period.
        horizon: The prediction length.
        stride: Rows between the origins of two windows.
        missing: The number that stands for a missing value, or None where what stands there is left.
    """

    file: str
    borders: tuple[int, int, int]
    season: int
    horizon: int
    stride: int
    missing: float | None = None


SOURCES = {
    "ETTh1": Source("ETTh1.csv", (8640, 11520, 14400), 24, 96, 4),
    "ETTm1": Source("ETTm1.csv", (34560, 46080, 57600), 96, 96, 16),
    "Illness": Source("Illness.csv", (676, 773, 966), 52, 24, 1),
    "ExchangeRate": Source("ExchangeRate.csv", (5311, 6071, 7588), 1, 96, 4),
    "Weather": Source("Weather.csv", (36887, 42157, 52696), 144, 96, 24, missing=-9999.0),
    "Weather-raw": Source("Weather.csv", (36887, 42157, 52696), 144, 96, 24),
}
BAR = ("ETTh1", "ETTm1", "Illness", "ExchangeRate", "Weather")  # the sets whose mean ratio is reported


def read(source: Source, folder: Path) -> tuple[Tensor, str]:
    r"""Reads a set, fills missing values forward and divides by the train rows' scale.

    Arguments:
        source: The set.
        folder: Where its file lies.

    Returns:
        The scaled values, with shape (T, D), and the file's sha256.
    """
    path = folder / source.file
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        rows = list(csv.reader(file))[1:]
    values = np.array([[float(x) for x in row[1:]] for row in rows])
    if source.missing is not None:
        for t in range(1, len(values)):
            gone = values[t] == source.missing
            values[t, gone] = values[t - 1, gone]
    train = values[: source.borders[0]]
    scale = train.std(0)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return torch.from_numpy((values - train.mean(0)) / np.where(scale > 0, scale, 1.0)).float(), digest


def windows(values: Tensor, source: Source, part: str, stride: int) -> tuple[Tensor, Tensor]:
    r"""Cuts the windows of one part, each channel a series.

    Arguments:
        values: The scaled values, with shape (T, D).
        source: The set.
        part: "train", "validation" or "test": where the targets lie.
        stride: Rows between two origins.

    Returns:
        Contexts (N, L) and futures (N, H).
    """
    train, validation, test = source.borders
    start, stop = {"train": (CONTEXT, train), "validation": (train, validation), "test": (validation, test)}[part]
    size = CONTEXT + source.horizon
    rows = values[start - CONTEXT : stop].unfold(0, size, stride)  # (n, D, L + H)
    rows = rows.reshape(-1, size)
    return rows[:, :CONTEXT], rows[:, CONTEXT:]


def nlinear(values: Tensor, source: Source) -> Tensor:
    r"""Solves NLinear in closed form: one ridge for all channels on what lies above each context's last value.

    Arguments:
        values: The scaled values, with shape (T, D).
        source: The set; train rows are solved on, validation rows choose the ridge's strength.

    Returns:
        The weights, with shape (L, H).
    """
    stride = max(1, source.borders[0] // 10000)
    past, future = windows(values, source, "train", stride)
    if len(past) == 0:
        raise ValueError(f"{source.file} has fewer train rows than a context of {CONTEXT} and a future need")
    past, future = (past - past[:, -1:]).double(), (future - past[:, -1:]).double()
    eigenvalues, vectors = torch.linalg.eigh(past.mT @ past / len(past))
    moment = vectors.mT @ (past.mT @ future) / len(past)
    x, y = windows(values, source, "validation", max(1, stride * 4))
    x, y = (x - x[:, -1:]).double() @ vectors, (y - x[:, -1:]).double()
    best, weights = float("inf"), moment
    for strength in 10.0 ** np.arange(-6, 2.1, 0.5):
        solution = moment / (eigenvalues + strength * eigenvalues.mean())[:, None]
        error = float((x @ solution - y).square().mean())
        if error < best:
            best, weights = error, vectors @ solution
    return weights.float()


def scores(future: Tensor, quantiles: Tensor) -> dict[str, float]:
    r"""Scores deciles (or a point forecast, its nine columns equal).

    Arguments:
        future: The truth, with shape (N, H).
        quantiles: The deciles, with shape (N, 9, H).

    Returns:
        MSE of the median and of the mean, MAE of the median, WQL and the coverage of the 80 % interval.
    """
    quantiles = quantiles.sort(1).values
    mean = QuantileFunction(LEVELS, quantiles.mT).mean
    error = future.unsqueeze(1) - quantiles
    pinball = 2 * torch.maximum(LEVELS.view(-1, 1) * error, (LEVELS.view(-1, 1) - 1) * error)
    inside = (future >= quantiles[:, 0]) & (future <= quantiles[:, -1])
    return {
        "mse": float(error[:, 4].square().mean()),
        "mse_of_mean": float((future - mean).square().mean()),
        "mae": float(error[:, 4].abs().mean()),
        "wql": float(pinball.mean()),
        "coverage_80": float(inside.float().mean()),
    }


@torch.no_grad()
def predict(model: torch.nn.Module, context: Tensor, horizon: int, chunk: int = 512) -> Tensor:
    r"""Forecasts with a Chronos-Bolt module within its own prediction length.

    Arguments:
        model: The module.
        context: The past, with shape (N, L).
        horizon: The prediction length.
        chunk: Series a call.

    Returns:
        The deciles, with shape (N, 9, H).
    """
    parts = [model(context=x).quantile_preds[..., :horizon] for x in context.split(chunk)]
    return torch.cat(parts).float()


def naive(past: Tensor, horizon: int, season: int) -> Tensor:
    r"""Repeats the last season (the last value at season 1) as all nine deciles."""
    lag = torch.arange(horizon) % season
    return past[:, past.shape[1] - season + lag].unsqueeze(1).expand(-1, 9, -1)


def holes(past: Tensor, share: float, seed: int) -> Tensor:
    r"""Removes a share of the context's steps at random."""
    gone = torch.rand(past.shape, generator=torch.Generator().manual_seed(seed)) < share
    return past.masked_fill(gone, float("nan"))


def evaluate(
    model: torch.nn.Module, folder: Path, *, sets: list[str], part: str = "test", coarse: int = 1, seed: int = 0,
    baselines: bool = True,
) -> list[dict[str, object]]:  # fmt: skip
    r"""Scores one model and the baselines on some sets.

    Arguments:
        model: The Chronos-Bolt module.
        folder: Where the data lie.
        sets: Names in `SOURCES`.
        part: The part scored.
        coarse: Multiplies each set's stride, for a quick look.
        seed: Of the steps that the row "20 % missing" loses.
        baselines: Whether to score NLinear and the missing-values row too.

    Returns:
        One row a set and model.
    """
    rows: list[dict[str, object]] = []
    for name in sets:
        source = SOURCES[name]
        values, digest = read(source, folder)
        stride = source.stride * coarse
        past, future = windows(values, source, part, stride)
        horizon = source.horizon
        laws = {"last value": naive(past, horizon, 1), "seasonal naive": naive(past, horizon, source.season)}
        if baselines:
            line = past[:, -1:] + (past - past[:, -1:]) @ nlinear(values, source)
            laws["NLinear (closed form)"] = line.unsqueeze(1).expand(-1, 9, -1)
        start = time.perf_counter()
        laws["model"] = predict(model, past, horizon)
        seconds = time.perf_counter() - start
        if baselines:
            laws["model, 20 % missing"] = predict(model, holes(past, 0.2, seed), horizon)
        results = {label: scores(future, law) for label, law in laws.items()}
        better = min(results["last value"]["mae"], results["seasonal naive"]["mae"])
        for label, result in results.items():
            point = not label.startswith("model")
            rows.append({
                "dataset": name, "model": label, "part": part, "context": CONTEXT, "horizon": horizon,
                "stride": stride, "series": len(past), **result, "ratio": result["wql"] / better,
                "coverage_80": None if point else result["coverage_80"],
                "seconds": round(seconds, 2) if label == "model" else None, "sha256": digest,
            })  # fmt: skip
    return rows


def speed(model: torch.nn.Module) -> float:
    r"""Returns the seconds that 1,000 series of 504 steps take in one call, the middle of five."""
    x = torch.randn(1000, CONTEXT, generator=torch.Generator().manual_seed(0)).cumsum(-1)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        predict(model, x, 96, chunk=1000)
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[2]


def made_by(folder: Path, seed: int) -> dict[str, object]:
    r"""Returns what every row carries of the model in a folder, the code, the seed and the packages."""
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    return {
        "weights_sha256": weights, "commit": commit(), "seed": seed, "threads": torch.get_num_threads(),
        "python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
        "chronos": chronos.__version__,
    }  # fmt: skip


def table(rows: list[dict[str, object]]) -> str:
    r"""Renders rows as a Markdown table."""
    lines = [
        "| data set | H | model | MSE | MSE of the mean | MAE | WQL | coverage 80 % | WQL / better naive MAE |",
        "|" + "---|" * 9,
    ]
    for row in rows:
        cover = "" if row["coverage_80"] is None else f"{row['coverage_80']:.3f}"
        figures = " | ".join(f"{row[key]:.3f}" for key in ERRORS)
        lines.append(
            f"| {row['dataset']} | {row['horizon']} | {row['model']} | {figures} | {cover} | {row['ratio']:.3f} |"
        )
    return "\n".join(lines)


def write_card(
    folder: Path, rows: list[dict[str, object]], mean: float, loading: float, seconds: float, threads: int
) -> None:
    r"""Writes scores into a model's `card.json` and renders `card.md` from it.

    Arguments:
        folder: The model's directory.
        rows: What `evaluate` returned, with versions.
        mean: The mean ratio of WQL to the better naive's MAE.
        loading: The seconds that loading took, its packages already imported.
        seconds: What `speed` returned.
        threads: How many threads that took.
    """
    card = json.loads((folder / "card.json").read_text())
    keys = ("dataset", "horizon", "stride", "series", "model", *ERRORS, "coverage_80", "ratio")
    card["zero_shot"] = [{key: row[key] for key in keys} for row in rows]
    card["zero_shot_mean_ratio"] = mean
    card["seconds_to_load"] = round(loading, 2)
    card["seconds_for_1000_series"] = {"threads": threads, "seconds": round(seconds, 2)}
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n")
    (folder / "card.md").write_text(card_text(card))


def training_table(history: list[dict[str, Any]]) -> str:
    r"""Returns the parts of a training run as a Markdown table.

    Arguments:
        history: A card's `history`.
    """
    lines = ["| from step | prior | end set to | falling over | and |", "|---|---|---|---|---|"]
    for part in history:
        also = [
            f"targets blurred by {part['blur']:g} scales" if part.get("blur") else "",
            f"rates {part['rate']:g} and {part['outer_rate']:g}" if "rate" in part else "",
            f"{part['eventful']:.0%} of the windows chosen to end in an event" if part.get("eventful") else "",
            f"optimisers anew from the weights of {part['weights']}" if "weights" in part else "",
            f"taught by {part['teacher']}" if "teacher" in part else "",
        ]
        lines.append(
            f"| {part['from']:,} | {part['prior']} | {part['steps']:,} | {part['decay']:,} | "
            f"{'; '.join(filter(None, also))} |"
        )
    return "\n".join(lines)


def card_text(card: dict[str, Any]) -> str:
    r"""Returns the text of `card.md`.

    Arguments:
        card: What `card.json` holds, with its zero-shot scores.
    """
    settings, shape, rows, speed = (
        card[key] for key in ("settings", "architecture", "zero_shot", "seconds_for_1000_series")
    )
    losses = list(card["validation_loss"].values())
    covers = {row["dataset"]: row["coverage_80"] for row in rows if row["model"] == f"{card['name']} {card['version']}"}
    low = ", ".join(f"{name} ({cover:.0%})" for name, cover in covers.items() if cover < 0.76)
    narrow = f"\nIts 80 % interval is too narrow on {low}." if low else ""
    prior = ", ".join(f"{name} {share:.0%}" for name, share in card["prior"].items())
    strides = ", ".join(dict.fromkeys(f"{row['dataset']} {row['stride']}" for row in rows))
    return f"""# bolt-nano {card["version"]}

A Chronos-Bolt model of {card["parameters"] / 1e6:.2f} M parameters, trained from scratch on synthetic series only:
every real series is new to it. It loads as any Chronos-Bolt checkpoint:
`BaseChronosPipeline.from_pretrained(folder)`.

| | |
|---|---|
| weights | `model.safetensors`, {card["precision"]}, sha256 `{card["sha256"]}` |
| network | d_model {shape["d_model"]}, d_ff {shape["d_ff"]}, {shape["num_layers"]} encoder and \
{shape["num_decoder_layers"]} decoder layers, {shape["num_heads"]} heads, patches of {card["patch"]} |
| forecasts | deciles, {card["prediction_length"]} steps in one pass, of at most {card["context_length"]} steps past |
| prior (`prior.py`) | {prior}; a third of the windows mixtures of two, a fifth upside down |
| training (`pretrain.py`) | {card["steps"]:,} steps of {settings["batch"]} windows \
({card["windows"] / 1e6:.1f} M), seed {settings["seed"]}; in the last part Muon \
{settings["rate"]:g}, AdamW {settings["outer_rate"]:g} for the outer layers; averaged weights \
({settings["averaging"]:g}); bfloat16 autocast |
| learning rate | constant, at the end falling to zero as one minus a root; its parts are at the end of this page |
| loss on unseen series of the prior | {f"{losses[-1]:.4f}" if losses else "not measured"} |
| loading | {card["seconds_to_load"]:.2f} s, torch and Chronos already imported |
| speed | 1,000 series of {CONTEXT} steps in {speed["seconds"]:.2f} s on {speed["threads"]} CPU threads |

## Zero-shot scores

Test windows with conventional borders, context {CONTEXT}, scaled by the train rows' standard deviation; a fixed stride
of rows between windows ({strides}). MSE and MAE are of the median; the mean is that of the law that the library makes
of the deciles. WQL is the mean of twice the pinball loss over the deciles. The last column divides it by the better of
the two naives' MAE; its mean over ETTh1, ETTm1, Illness, ExchangeRate and Weather is \
**{card["zero_shot_mean_ratio"]:.3f}**. In Weather -9999 is missing and filled forward; Weather-raw leaves it in, as
the literature does. ETTh1 and ETTm1 are one station. Made by `python -m benchmarks.foundation.zero_shot --card`.

{table(rows)}

## Limits

Univariate, without covariates; at most {CONTEXT} steps of past are read, so a season longer than that is not seen.
Beyond {card["prediction_length"]} steps it is unrolled on its own forecasts.{narrow}

## The run, part by part

Each part went on where the one before it stood, often before the end that had been set.

{training_table(card["history"])}
"""


def loaded(parser: argparse.ArgumentParser, folder: Path, horizon: int) -> ChronosBolt:
    r"""Loads the model to score, or ends the command with one line.

    Arguments:
        parser: Of the command.
        folder: The model's directory.
        horizon: How many steps it must forecast in one pass.
    """
    try:
        frozen = from_directory(folder)
    except ValueError as error:
        parser.error(str(error))
    steps = frozen.model.chronos_config.prediction_length
    if steps < horizon:
        parser.error(f"--model {folder} forecasts {steps} steps in one pass, {horizon} are scored")
    return frozen


def main() -> None:
    r"""Reads the options, scores, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=BUNDLED, help="a Chronos-Bolt directory")
    parser.add_argument("--sets", nargs="+", default=list(SOURCES), choices=list(SOURCES))
    parser.add_argument("--part", default="test", choices=["train", "validation", "test"])
    parser.add_argument("--coarse", type=int, default=1, help="multiplies every set's stride")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="a CSV to write")
    parser.add_argument("--card", action="store_true", help="write the scores into the model's card")
    options = parser.parse_args()
    if not Path(os.environ.get("ADAPTS_DATA") or "not set").is_dir():
        parser.error("ADAPTS_DATA is not set to a folder: let it name that which holds ETTh1.csv, Illness.csv, ...")
    if options.coarse < 1 or options.threads < 1:
        parser.error(f"--coarse and --threads count from 1, got {options.coarse} and {options.threads}")
    if options.output and options.output.is_dir():
        parser.error(f"--output {options.output} is a folder: give a file")
    if options.card and (options.sets != list(SOURCES) or options.part != "test" or options.coarse != 1):
        parser.error("--card holds the scores of all windows: give it without --sets, --part and --coarse")
    if options.card and not (options.model / "card.json").is_file():
        parser.error(f"--card: there is no card.json in {options.model} to write the scores into")
    torch.set_num_threads(options.threads)

    start = time.perf_counter()
    frozen = loaded(parser, options.model, max(SOURCES[name].horizon for name in options.sets))
    loading = time.perf_counter() - start
    model, name = frozen.model, named(frozen)
    rows = evaluate(
        model, Path(os.environ["ADAPTS_DATA"]), sets=options.sets, part=options.part, coarse=options.coarse,
        seed=options.seed,
    )  # fmt: skip
    versions = made_by(options.model, options.seed)
    rows = [{**row, "model": str(row["model"]).replace("model", name), **versions} for row in rows]
    print(f"{'dataset':13}{'model':26}{'MSE':>8}{'of mean':>8}{'MAE':>8}{'WQL':>8}{'cov80':>7}{'ratio':>7}")
    for row in rows:
        cover = "" if row["coverage_80"] is None else f"{row['coverage_80']:.3f}"
        print(
            f"{row['dataset']:13}{row['model']:26}{''.join(f'{row[key]:8.3f}' for key in ERRORS)}"
            f"{cover:>7}{row['ratio']:7.3f}"
        )
    mine = [float(str(row["ratio"])) for row in rows if row["model"] == name and row["dataset"] in BAR]
    if mine:
        print(f"mean ratio of {name} over {len(mine)} sets: {sum(mine) / len(mine):.4f}")
    seconds = speed(model)
    print(f"loaded in {loading:.2f} s; 1,000 series of {CONTEXT} steps: {seconds:.2f} s")
    if options.card:
        write_card(options.model, rows, sum(mine) / len(mine), loading, seconds, options.threads)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        with options.output.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
