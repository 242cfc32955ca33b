r"""What covariates bring: a simulated driver, noise, and the clear sky over greensboro's irradiance.

    python -m benchmarks.covariates.run [SET ...]

Each set is scored with and without its covariates on the same windows, every six rows so that forecasts begin at all
times of day; the difference comes with the 90 % interval of paired windows. "Recalibration none" tells what
the covariates do by themselves: maps of the levels that are kept here and dropped there differ by more. Static columns
are compared with the same known covariate without them. One CSV row a set; the others keep theirs where some are named.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from adapts import Adapter
from adapts.data.cards import Dataset, read
from adapts.data.panel import Panel
from adapts.data.roles import assign
from adapts.evaluation.backtest import Backtest, roll
from adapts.evaluation.differences import difference_table
from benchmarks.provenance import named, provenance

HERE = Path(__file__).parent
PREDICTION_LENGTH = 24
SEED = 0
STRIDE = 6
PLACE = {"latitude": 36.1, "longitude": -79.95, "altitude": 273}  # of the station, from the file's first line


def simulated(rows: int = 4000, seed: int = SEED) -> pd.DataFrame:
    r"""Two daily channels; one is driven by an action that no past tells, none by noise and a wandering level."""
    generator = np.random.default_rng(seed)
    action, noise, first, second, wander = generator.standard_normal((5, rows))
    hour = 2 * np.pi * np.arange(rows) / 24
    columns = {
        "a": np.sin(hour) + 1.0 * action + 0.5 * first,
        "b": np.cos(hour) + 0.5 * second,
        "action": action,
        "noise": noise,
        "walk": wander.cumsum(),
    }
    return pd.DataFrame(columns, pd.date_range("2024-01-01", periods=rows, freq="h"))


def kinds(items: int = 8, rows: int = 1000, seed: int = SEED) -> pd.DataFrame:
    r"""Items with daily channels: an action raises `a` of one kind of them and lowers that of the other, `b` of all."""
    generator = np.random.default_rng(seed)
    tables = []
    for number in range(items):
        action, first, second = generator.standard_normal((3, rows))
        hour = 2 * np.pi * np.arange(rows) / 24
        kind = 1.0 if number % 2 else -1.0
        columns = {
            "item_id": str(number),
            "timestamp": pd.date_range("2024-01-01", periods=rows, freq="h"),
            "a": np.sin(hour) + kind * action + 0.5 * first,
            "b": np.cos(hour) + action + 0.5 * second,
            "action": action,
            "kind": kind,
            "noise": float(number // 2),  # as often with one kind as with the other
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def clear_sky(index: pd.DatetimeIndex) -> np.ndarray:
    r"""The irradiance under a clear sky in the middle of each hour, W/m^2, from the sun's place alone (Haurwitz)."""
    from pvlib.clearsky import haurwitz
    from pvlib.solarposition import get_solarposition

    middle = index.tz_localize("Etc/GMT+5") + pd.Timedelta("30min")  # the record is in local standard time
    return haurwitz(get_solarposition(middle, **PLACE)["apparent_zenith"])["ghi"].to_numpy()


def sets() -> dict[str, tuple[Dataset, str, dict[str, object]]]:
    r"""By name: the data with all columns, the channel that counts, and the roles of the columns."""
    greensboro = read("greensboro")
    frame = greensboro.panel.to_pandas()
    frame["clear sky"] = clear_sky(frame.index)
    frame["noise"] = np.random.default_rng(SEED).standard_normal(len(frame))
    weather = Dataset(
        "greensboro", Panel.of(frame, frequency="h"), greensboro.borders, greensboro.end, greensboro.season_length,
        greensboro.support,
    )  # fmt: skip
    driven, apart = Dataset("simulated", Panel.of(simulated())), Dataset("kinds", Panel.of(kinds()))
    acted = {"target": ["a", "b"], "known_covariates": ["action"]}
    others = ["DNI", "DHI", "dry_bulb", "dew_point", "relative_humidity", "pressure", "wind_speed"]
    return {
        "simulated, action known": (driven, "a", {"target": ["a", "b"], "known_covariates": ["action"]}),
        "simulated, noise known": (driven, "all", {"target": ["a", "b"], "known_covariates": ["noise"]}),
        "simulated, walk known": (driven, "all", {"target": ["a", "b"], "known_covariates": ["walk"]}),
        "simulated, noise past": (driven, "all", {"target": ["a", "b"], "past_covariates": ["noise"]}),
        "simulated, kind static": (apart, "a", {**acted, "static": ["kind"]}),
        "simulated, noise static": (apart, "all", {**acted, "static": ["noise"]}),
        "greensboro, clear sky known": (weather, "GHI", {"target": ["GHI"], "known_covariates": ["clear sky"]}),
        "greensboro, clear sky known, recalibration none": (
            weather,
            "GHI",
            {"target": ["GHI"], "known_covariates": ["clear sky"], "recalibration": "none"},
        ),
        "greensboro, calendar": (weather, "GHI", {"target": ["GHI"], "calendar": True}),
        "greensboro, other channels past": (weather, "GHI", {"target": ["GHI"], "past_covariates": others}),
        "greensboro, noise known": (weather, "GHI", {"target": ["GHI"], "known_covariates": ["noise"]}),
        "greensboro, noise past": (weather, "GHI", {"target": ["GHI"], "past_covariates": ["noise"]}),
    }


def scored(dataset: Dataset, roles: dict[str, object], recalibration: str) -> Backtest:
    options = {"past_covariates": (), "known_covariates": (), "calendar": False, **roles}
    panel = assign(Panel.of(dataset.panel, static=options.pop("static", ())), **options)
    support = {name: bounds for name, bounds in dataset.support.items() if name in panel.targets}
    dataset = Dataset(dataset.name, panel, dataset.borders, dataset.end, dataset.season_length, support)
    adapter = Adapter("residual", prediction_length=PREDICTION_LENGTH, recalibration=recalibration, seed=SEED)
    return roll(adapter, dataset, stride=STRIDE, baselines=False, seed=SEED)


def main() -> None:
    whole, place = sets(), HERE / "scores.csv"
    asked = sys.argv[1:] or list(whole)
    kept = pd.read_csv(place, float_precision="round_trip") if sys.argv[1:] else pd.DataFrame({"set": []})
    rows = kept[~kept["set"].isin(asked)].to_dict("records")
    for name in asked:
        dataset, channel, roles = whole[name]
        recalibration = str(roles.pop("recalibration", "auto"))
        plain = {**roles, "static": ()} if "static" in roles else {"target": roles["target"]}
        without = scored(dataset, plain, recalibration)
        with_them = scored(dataset, roles, recalibration)
        scores = {"without": without.scores["adapter"], "with": with_them.scores["adapter"]}
        found = difference_table(scores, without.windows, against="without", metrics=["crps"])
        found = found.query("model == 'with' and channel == @channel").iloc[0]
        crps = {key: _crps(each, channel) for key, each in (("without", without), ("with", with_them))}
        stage = with_them.adapter.summary().stages["covariates"]
        rows.append({
            "set": name, "channel": channel, "crps_without": crps["without"], "crps_with": crps["with"],
            "change_percent": 100 * (crps["with"] / crps["without"] - 1), "difference": found["difference"],
            "low": found["low"], "high": found["high"], "windows": len(without.windows), "stride": without.stride,
            "stage": stage, "foundation_model": named(with_them.adapter.model),
            **provenance(dataset.panel, SEED),
        })  # fmt: skip
        print(f"{name}: {crps['without']:.4f} -> {crps['with']:.4f} ({rows[-1]['change_percent']:+.2f} %; difference "
              f"{found['low']:+.4f} to {found['high']:+.4f}). {stage}", flush=True)  # fmt: skip
        rows.sort(key=lambda row: list(whole).index(row["set"]))
        pd.DataFrame(rows).to_csv(place, index=False)


def _crps(result: Backtest, channel: str) -> float:
    overall = result.frame.query("metric == 'crps' and lead_block == 'all' and channel == @channel")
    return float(overall["value"].iloc[0])


if __name__ == "__main__":
    main()
