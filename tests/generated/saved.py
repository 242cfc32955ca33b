r"""Saved adapters whose files were edited: with the old digest, which must be an error, and with a new one."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
from safetensors.torch import load_file, save_file

from adapts import Adapter, GroupedAdapter
from adapts.adapters import Linear
from adapts.foundation import FoundationModel
from adapts.persistence.saved_schema import digest
from adapts.testing.tiny import tiny_chronos_bolt

from .damage import altered, damaged, places, retensored
from .fits import small, tiny
from .judge import Case, Unbuilt, Wrong, require_whole

CONFIG, TENSORS = "config.json", "adapter.safetensors"
_NUMBER = itertools.count()


def reseal(folder: Path) -> None:
    r"""Writes the digest that the files of a folder now have into its config, as `save` does."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise Unbuilt("a config without a place for a digest")
    data = (folder / TENSORS).read_bytes() if (folder / TENSORS).is_file() else b""
    try:
        config["sha256"] = digest(config, data)
    except ValueError as error:  # NaN and infinities, of which there is no digest
        raise Unbuilt(str(error)) from error
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")


@dataclass(frozen=True)
class Saved:
    r"""What is prepared: saved adapters, what they forecast, and the model around which they were fitted."""

    folder: Path
    model: FoundationModel
    series: dict[str, Any]
    samples: dict[str, list[np.ndarray]]
    futures: dict[str, Any]


def _rows(rows: int = 70) -> np.ndarray:
    time, rng = np.arange(rows)[:, None], np.random.default_rng(0)
    return np.sin(time / 3 + np.arange(2)) * [1, 10] + 0.1 * rng.normal(size=(rows, 2))


def _dated(zone: str | None = None) -> pd.DataFrame:
    index = pd.date_range("2024-03-28", periods=70, freq="h", tz=zone, name="when")
    return pd.DataFrame(_rows(), index, ["a", "b"]).assign(plan=np.arange(70) % 5)


def _panel() -> pd.DataFrame:
    parts = [pd.DataFrame(_rows() + n, pd.date_range("2024", periods=70), ["a", "b"]) for n in range(3)]
    long = pd.concat(parts, keys=list("uvw"), names=["shop", "date"]).reset_index()
    return long.assign(
        kind=long["shop"].map({"u": "p", "v": "q", "w": "p"}), size=long["shop"].map({"u": 1.0, "v": 2.0, "w": 5.0})
    )


def _ahead(index: pd.DatetimeIndex) -> pd.DataFrame:
    dates = pd.date_range(index[-1], periods=4, freq=index.freq)[1:]
    return pd.DataFrame({"plan": [1.0, 2.0, 3.0]}, dates)


def prepare(folder: Path) -> Saved:
    r"""Fits and saves adapters of several kinds."""
    model = tiny()
    checkpoint = folder / "model"
    tiny_chronos_bolt(context_length=32, prediction_length=4, patch=4).save_pretrained(checkpoint)
    gap = _rows()
    gap[30:40, 1] = np.nan
    zoned = _dated("Europe/Berlin")
    adapters: dict[str, tuple[Adapter, Any, dict[str, Any], Any]] = {
        "array": (small(str(checkpoint)), _rows(), {}, None),
        "gap": (small(str(checkpoint), "identity", copula="schaake", recalibration="conformal"), gap, {}, None),
        "linear": (
            small(str(checkpoint), Linear(free="decoder"), copula="gaussian-history", seed=3),
            _rows(),
            {},
            None,
        ),
        "dated": (
            small(str(checkpoint), support={"a": (-5.0, 5.0)}),
            zoned,
            {"known_covariates": "plan", "calendar": True},
            _ahead(zoned.index),
        ),
        "past": (small(str(checkpoint), "projection"), _dated(), {"past_covariates": ["plan"]}, None),
        "panel": (
            small(str(checkpoint), copula="empirical"),
            _panel(),
            {"item_column": "shop", "static": ["kind", "size"], "calendar": True},
            None,
        ),
        "vae": (small(str(checkpoint), "vae", posterior_draws=2), _rows(), {}, None),
        "bayesian": (small(str(checkpoint), "bayesian", posterior_draws=2), _rows(), {}, None),
        "ensemble": (small(str(checkpoint), "ensemble", gate=False), _rows(), {}, None),
        "few": (small(str(checkpoint), context_length=8), _rows(24), {}, None),
    }
    made = Saved(folder, model, {}, {}, {})
    for name, (adapter, series, options, future) in adapters.items():
        adapter.fit(series, **options).save(folder / name)
        made.series[name], made.futures[name] = series, future
        made.samples[name] = _samples(adapter.predict(future=future, num_samples=6))
    grouped = GroupedAdapter(small(str(checkpoint)), "kind").fit(_panel().drop(columns="size"), item_column="shop")
    grouped.save(folder / "grouped")
    return made


def _samples(forecasts: Any) -> list[np.ndarray]:
    return [each.samples for each in (forecasts if isinstance(forecasts, list) else [forecasts])]


def _use(saved: Saved, name: str, folder: Path, random_bit: bool) -> list[np.ndarray]:
    r"""Loads an adapter and asks it for all that it gives."""
    adapter = Adapter.load(folder, foundation_model=saved.model if random_bit else None)
    repr(adapter), str(adapter.summary()), adapter.summary().to_dict(), adapter.get_params()
    forecasts = adapter.predict(future=saved.futures[name], num_samples=6)
    require_whole(forecasts)
    for each in forecasts if isinstance(forecasts, list) else [forecasts]:
        each.to_pandas()
    if saved.futures[name] is None:
        require_whole(adapter.predict(saved.series[name], num_samples=6))
    again = folder.parent / f"{folder.name}-again"
    adapter.save(again)
    shutil.rmtree(again)
    return _samples(forecasts)


def _case(
    saved: Saved, random: Random, name: str, edit: Callable[[Path], str], sealed: bool, harmless: Callable[[Path], bool]
) -> Case:
    r"""A case of a folder that is copied, edited and loaded; under its old digest only where that is harmless."""
    folder = saved.folder / f"case-{next(_NUMBER)}"
    shutil.copytree(saved.folder / name, folder)
    told = edit(folder)
    if sealed:
        reseal(folder)
    given = random.random() < 0.85

    def run() -> object:
        try:
            samples = _use(saved, name, folder, given)
            if not sealed and not harmless(folder):
                raise Wrong("edited, and loaded with its old digest: no error")
            if not sealed and not all(map(np.array_equal, samples, saved.samples[name])):
                raise Wrong("edited, and another forecast with its old digest")
            return samples
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    return Case(f"{name}: {told}{', sealed anew' if sealed else ''}{'' if given else ', its own model'}", run)


def _same_config(saved: Saved, name: str) -> Callable[[Path], bool]:
    old = json.dumps(json.loads((saved.folder / name / CONFIG).read_text(encoding="utf-8")), sort_keys=True)

    def same(folder: Path) -> bool:
        try:
            return json.dumps(json.loads((folder / CONFIG).read_text(encoding="utf-8")), sort_keys=True) == old
        except ValueError:
            return False

    return same


def _config_case(saved: Saved, random: Random, sealed: bool) -> Case:
    name = random.choice(sorted(saved.samples))

    def edit(folder: Path) -> str:
        config, told = altered(random, json.loads((folder / CONFIG).read_text(encoding="utf-8")))
        (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")
        return told

    return _case(saved, random, name, edit, sealed, _same_config(saved, name))


def configs_old(random: Random, saved: Saved) -> Case:
    r"""A config with a wrong leaf, key or branch, and the digest that it had."""
    return _config_case(saved, random, False)


def configs_new(random: Random, saved: Saved) -> Case:
    r"""The same with the digest computed again."""
    return _config_case(saved, random, True)


def config_leaves(saved: Saved) -> int:
    r"""How many places the configs have: the least number of cases that can try each of them."""
    return sum(
        len(places(json.loads((saved.folder / name / CONFIG).read_text(encoding="utf-8")))) for name in saved.samples
    )


def config_bytes(random: Random, saved: Saved) -> Case:
    r"""A config with damaged bytes, or with text that is JSON only nearly."""
    name = random.choice(sorted(saved.samples))

    def edit(folder: Path) -> str:
        text = (folder / CONFIG).read_bytes()
        if random.random() < 0.75:
            made = damaged(random, text)
        else:
            made = random.choice(
                [
                    b"",
                    b"null",
                    b"[]",
                    b"{}",
                    b"[" * 10**5,
                    b'{"a":' * 10**5,
                    text.decode().encode("utf-16"),
                    b"\xef\xbb\xbf" + text,
                    text.replace(b":", b": " + b"9" * 5000, 1),
                    text + text,
                    text.replace(b"{", b'{"format": 99,', 1),
                    b"\x00" * 100,
                    text.replace(b'"format": ', b'"format": "'),
                    text.replace(b"true", b"True"),
                    text.replace(b"0", b"00"),
                    text.replace(b"0.", b"."),
                    text.replace(b",", b",,"),
                    text.replace(b"}", b",}"),
                    text.replace(b'"', b"'"),
                    text.replace(b"1", b"1e999"),
                    text.replace(b"null", b"NaN"),
                    text.replace(b"\n", b"\r\n"),
                    b"/* */" + text,
                ]
            )
        (folder / CONFIG).write_bytes(made)
        return f"config of damaged bytes ({len(text)}, now {len(made)})"

    return _case(saved, random, name, edit, False, _same_config(saved, name))


def _tensor_case(saved: Saved, random: Random, sealed: bool) -> Case:
    name = random.choice(sorted(saved.samples))

    def edit(folder: Path) -> str:
        if random.random() < 0.2:
            content = (folder / TENSORS).read_bytes()
            (folder / TENSORS).write_bytes(damaged(random, content))
            told = "tensors of damaged bytes"
        else:
            tensors, told = retensored(random, load_file(folder / TENSORS))
            save_file(tensors, folder / TENSORS)
        if (folder / TENSORS).read_bytes() == (saved.folder / name / TENSORS).read_bytes():
            raise Unbuilt("nothing was edited")
        return told

    return _case(saved, random, name, edit, sealed, lambda folder: False)


def tensors_old(random: Random, saved: Saved) -> Case:
    r"""A wrong tensor, and the digest that they had."""
    return _tensor_case(saved, random, False)


def tensors_new(random: Random, saved: Saved) -> Case:
    r"""The same with the digest computed again."""
    return _tensor_case(saved, random, True)


def grouped(random: Random, saved: Saved) -> Case:
    r"""A grouped adapter with a wrong config, of its own or of a group's."""
    folder = saved.folder / f"case-{next(_NUMBER)}"
    shutil.copytree(saved.folder / "grouped", folder)
    inner = sorted(folder.glob("groups/*"))
    place = random.choice([folder, folder, folder, *inner])
    content = (place / CONFIG).read_bytes()
    if random.random() < 0.2:
        (place / CONFIG).write_bytes(damaged(random, content))
        told = "damaged bytes"
    elif random.random() < 0.15:
        other = random.choice(inner)
        how = random.choice(["gone", "elsewhere", "a file", "the same"])
        shutil.rmtree(other)
        if how == "elsewhere":
            shutil.copytree(saved.folder / "array", other)
        elif how == "a file":
            other.write_text("x")
        elif how == "the same":
            shutil.copytree(next(each for each in inner if each != other), other)
        told = f"a group's folder is {how}"
    else:
        config, told = altered(random, json.loads(content))
        (place / CONFIG).write_text(json.dumps(config), encoding="utf-8")
        if random.random() < 0.8:
            reseal(place)

    def run() -> object:
        try:
            adapter = GroupedAdapter.load(folder, foundation_model=saved.model)
            repr(adapter), str(adapter.summary()), adapter.summary().to_dict()
            for forecasts in (adapter.predict(num_samples=6), adapter.predict(_panel(), num_samples=6)):
                for each in forecasts.values() if isinstance(forecasts, dict) else [forecasts]:
                    require_whole(each)
            adapter.save(folder.with_name(folder.name + "-again"))
            return adapter
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(folder.with_name(folder.name + "-again"), ignore_errors=True)

    return Case(f"grouped, {place.relative_to(folder)}: {told}", run)
