r"""What else is read from a disk: recipes, model folders, checkpoints; and folders that hold what is the user's."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file, save_file

from adapts import GroupedAdapter, load_foundation_model, registry
from adapts.adapters import Linear
from adapts.foundation import FoundationModel
from adapts.testing.tiny import tiny_chronos_bolt

from .damage import altered, damaged, retensored
from .fits import TRAINER, small, tiny
from .judge import Case, Wrong, require_whole
from .saved import _panel, _rows

_NUMBER = itertools.count()


@dataclass(frozen=True)
class Ready:
    r"""What is prepared: a folder to work in, and the frozen model."""

    folder: Path
    model: FoundationModel


def prepare(folder: Path) -> Ready:
    r"""Makes the frozen model, and its folder `model`."""
    tiny_chronos_bolt(context_length=32, prediction_length=4, patch=4).save_pretrained(folder / "model")
    return Ready(folder, tiny())


# ---------------------------------------------------------------------------------------------------- recipes


def recipes(random: Random, ready: Ready) -> Case:
    r"""A case of a recipe of one's own."""
    names = registry.recipes()
    name = random.choice(list(names))
    text = names[name].read_text(encoding="utf-8")
    how = random.random()
    if how < 0.6:
        recipe, told = altered(random, yaml.safe_load(text))
        content = yaml.safe_dump(recipe).encode("utf-8", "surrogatepass")
    elif how < 0.8:
        content, told = damaged(random, text.encode()), "damaged bytes"
    else:
        content = random.choice(
            [
                b"",
                b"null",
                b"- a",
                b"family: residual\nwhen: !!python/object/apply:os.system ['true']",
                b"a: &a [*a]",
                b"\xff\xfe",
                b"family: [" * 5000,
                b"? {a: 1}\n: 2\n",
                b"family: residual\nwhen: x\nfamily: vae",
                b"family: residual\nwhen: 2024-01-01",
                b"a: &a [x]\n"
                + b"".join(
                    b"b%d: &b%d [%s]\n" % (n, n, b",".join([b"*a" if not n else b"*b%d" % (n - 1)] * 9))
                    for n in range(9)
                ),
                b"family: residual\nwhen: x\noptions: {? [1] : 2}",
                b"family: residual\nwhen: x\noptions: {lags: 1e400}",
                b"%YAML 9.9\n---\na",
                b"family: residual\nwhen: &i [" + b"[" * 200 + b"]" * 200 + b"]",
                b"family: 1:2:3\nwhen: 0o7",
                b"\t",
                b"a: 'x",
                b"family: ~\nwhen: ~",
                b"family: residual\nwhen: x\noptions: {lags: 0x" + b"f" * 5000 + b"}",
                b"family: residual\nwhen: 99999-99-99",
                b"...",
                b"<<: {a: 1}",
            ]
        )
        told = f"{content[:60]!r}"
    path = ready.folder / f"{next(_NUMBER)}.yaml"
    path.write_bytes(content)

    def run() -> object:
        made = small(ready.model, path, posterior_draws=2)
        repr(made), made.get_params()
        return require_whole(made.fit(_rows()).predict(num_samples=4))

    return Case(f"recipe {name}: {told}", run)


# ----------------------------------------------------------------------------------------------------- models


def model_folders(folder: Path) -> Path:
    r"""Writes a Chronos-Bolt and a PatchTST."""
    from transformers import PatchTSTConfig, PatchTSTForPretraining

    tiny_chronos_bolt(context_length=32, prediction_length=4, patch=4).save_pretrained(folder / "bolt")
    config = PatchTSTConfig(
        num_input_channels=1,
        context_length=32,
        patch_length=8,
        patch_stride=8,
        d_model=16,
        num_hidden_layers=1,
        ffn_dim=16,
        num_attention_heads=2,
        prediction_length=4,
        share_embedding=True,
    )
    PatchTSTForPretraining(config).save_pretrained(folder / "patchtst")
    return folder


def models(random: Random, folder: Path) -> Case:
    r"""A case of a model folder with a wrong config or weights."""
    name = random.choice(["bolt", "bolt", "patchtst"])
    place = folder / f"case-{next(_NUMBER)}"
    shutil.copytree(folder / name, place)
    weights, config = place / "model.safetensors", place / "config.json"
    how = random.random()
    if how < 0.6:
        made, told = altered(random, json.loads(config.read_text()))
        config.write_text(json.dumps(made))
    elif how < 0.7:
        config.write_bytes(damaged(random, config.read_bytes()))
        told = "config of damaged bytes"
    elif how < 0.85:
        tensors, told = retensored(random, load_file(weights))
        save_file(tensors, weights, {"format": "pt"})
    elif how < 0.92:
        weights.write_bytes(damaged(random, weights.read_bytes()))
        told = "weights of damaged bytes"
    else:
        changes: dict[str, Callable[[], Any]] = {
            "no weights": weights.unlink,
            "no config": config.unlink,
            "a pickle in place of weights": lambda: (
                torch.save(load_file(weights), place / "pytorch_model.bin"),
                weights.unlink(),
            ),
            "an index that leaves the folder": lambda: (
                weights.rename(folder / f"outside-{place.name}.safetensors"),
                (place / "model.safetensors.index.json").write_text(
                    json.dumps(
                        {
                            "metadata": {},
                            "weight_map": {
                                key: f"../outside-{place.name}.safetensors"
                                for key in load_file(folder / name / "model.safetensors")
                            },
                        }
                    )
                ),
            ),
            "a list of a card": lambda: (place / "card.json").write_text("[1]"),
            "a card that is no JSON": lambda: (place / "card.json").write_text("{"),
            "empty weights": lambda: weights.write_bytes(b""),
        }
        told = random.choice(list(changes))
        changes[told]()
    context = torch.from_numpy(_rows(32).T.copy()).float()

    def run() -> object:
        try:
            model = load_foundation_model(place, device="cpu")
            if told in ("a pickle in place of weights", "an index that leaves the folder"):
                raise Wrong(f"weights taken from {told}")
            forecast = model.predict(context, prediction_length=4)
            if not torch.isfinite(forecast).all():
                raise Wrong("a frozen model that forecasts NaN")
            return require_whole(small(model).fit(_rows(40)).predict(num_samples=4))
        finally:
            shutil.rmtree(place, ignore_errors=True)

    return Case(f"model {name}: {told}", run)


# ------------------------------------------------------------------------------------------------ checkpoints


class _Ended(BaseException):
    r"""A fit that ends in the middle."""


@dataclass(frozen=True)
class Begun:
    r"""What is prepared: folders of fits that were ended, and the forecasts of those that were not."""

    folder: Path
    model: FoundationModel
    samples: dict[str, np.ndarray]


def _fit(model: FoundationModel, name: str, folder: Path | None) -> np.ndarray:
    family: Any = {"residual": "residual", "linear": Linear(), "decoder": Linear(free="decoder")}[
        name.partition("-")[0]
    ]
    made = small(model, family, trainer_options={**TRAINER, "max_epochs": 2}).fit(_rows(), checkpoint_dir=folder)
    return made.predict(num_samples=4).samples


def begun(folder: Path) -> Begun:
    r"""Ends fits after some of their pieces, in the moment when the next one would be moved to its place."""
    made = Begun(folder, tiny(), {})
    replace = os.replace
    for family in ("residual", "linear", "decoder"):
        samples = _fit(made.model, family, None)
        for pieces in (2, 4, 7):
            left = iter(range(pieces))

            def moved(*paths: Any, _left: Any = left) -> None:
                if next(_left, None) is None:
                    raise _Ended
                replace(*paths)

            os.replace = moved
            try:
                _fit(made.model, family, folder / f"{family}-{pieces}")
            except _Ended:
                made.samples[f"{family}-{pieces}"] = samples
            finally:
                os.replace = replace
    return made


def checkpoints(random: Random, begun: Begun) -> Case:
    r"""A case of a fit that goes on from damaged pieces: to the same numbers, or to an error."""
    name = random.choice(sorted(begun.samples))
    folder = begun.folder / f"case-{next(_NUMBER)}"
    shutil.copytree(begun.folder / name, folder)
    path = random.choice(sorted(each for each in folder.iterdir() if each.is_file()))
    how = random.choice(["damaged", "damaged", "empty", "gone", "junk", "swapped", "a folder", "tensors", "beside"])
    if how == "damaged":
        path.write_bytes(damaged(random, path.read_bytes()))
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "gone":
        path.unlink()
    elif how == "junk":
        path.write_bytes(bytes(random.randrange(256) for _ in range(200)))
    elif how == "swapped":
        other = random.choice(sorted(folder.iterdir()))
        one, two = path.read_bytes(), other.read_bytes()
        path.write_bytes(two), other.write_bytes(one)
    elif how == "a folder":
        path.unlink(), path.mkdir(), (path / "mine.txt").write_text("mine")
    elif how == "tensors" and path.suffix == ".safetensors":
        tensors, how = retensored(random, load_file(path))
        save_file(
            tensors,
            path,
            random.choice([None, {"about": "null"}, {"about": "x"}, {"about": '{"done": 99, "stages": {}}'}]),
        )
    else:
        _plant(random, folder)
    mine = _planted(folder)

    def run() -> object:
        try:
            samples = _fit(begun.model, name, folder)
            if not np.array_equal(samples, begun.samples[name]):
                raise Wrong("a fit that goes on from damaged pieces to other numbers")
            return samples
        finally:
            lost = mine - _planted(folder)
            shutil.rmtree(folder, ignore_errors=True)
            if lost:
                raise Wrong(f"lost what is the user's: {sorted(lost)[:3]}")

    return Case(f"checkpoints {name}, {path.name}: {how}", run)


# ---------------------------------------------------------------------------------------------------- folders

MINE = "mine, and the only copy"


def _plant(random: Random, folder: Path) -> None:
    r"""Puts files of the user's into a folder, under names like ours."""
    names = [
        "thesis.docx",
        "film.mkv.part",
        "notes.txt",
        "x.safetensors",
        "config.json.bak",
        "sub/data.csv",
        "groups/data.csv",
        "adapter/notes.txt",
        "adapter/sub/x",
        ".hidden",
        "x.json",
        "training.ckpt.old",
        "forecast.csv.part",
        "a/b/c/d.txt",
        "old.part",
        "groups/0123456789abcdef/notes.txt",
        "adapter/groups/x.csv",
        ".git/config",
        "stages.safetensors.txt",
        "fit.json~",
        "adapter.safetensors.part/x",
        "fit.json.part/x",
        "empty/../deep/x.part",
    ]
    for name in random.sample(names, k=random.choice([1, 1, 2, 4])):
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(MINE)
        except OSError:
            continue


def _planted(folder: Path) -> set[str]:
    r"""The files of the user's that are in a folder, and the folder beside it."""
    found = set()
    for place in (folder, folder.with_name(f".{folder.name}.old")):
        for above, _, files in os.walk(place):
            for name in files:
                path = Path(above) / name
                if path.stat().st_size == len(MINE) and path.read_text() == MINE:
                    found.add(str(path.relative_to(folder.parent)))
    return found


def folders(random: Random, ready: Ready) -> Case:
    r"""A case of an output where there is something already: what is the user's stays, whether or not it is refused."""
    folder = ready.folder / f"out-{next(_NUMBER)}"
    before = random.choice(["nothing", "ours", "ours", "a grouped one", "a run"])
    adapter = small(ready.model)
    grouped = GroupedAdapter(small(ready.model), "kind")
    data = folder.with_suffix(".csv")
    _panel().drop(columns=["size", "kind"]).to_csv(data, index=False)

    def forecast(overwrite: bool) -> object:
        from typer.testing import CliRunner

        from adapts.cli import app

        command = ["forecast", data, "--prediction-length", 3, "--context-length", 16, "--item-column", "shop"]
        command += ["--output", folder, "--max-windows", 8, "--foundation-model", ready.folder / "model"]
        done = CliRunner().invoke(app, [*map(str, command), *(["--overwrite"] if overwrite else [])])
        if done.exit_code not in (0, 2):
            raise Wrong(f"the command line ends with {done.exit_code}: {done.exception!r}")
        return done

    def save(overwrite: bool) -> object:
        return adapter.fit(_rows()).save(folder, overwrite=overwrite)

    def save_grouped(overwrite: bool) -> object:
        return grouped.fit(_panel().drop(columns="size"), item_column="shop").save(folder, overwrite=overwrite)

    outputs = {
        "save": save,
        "save grouped": save_grouped,
        "forecast": forecast,
        "fit": lambda overwrite: small(ready.model).fit(_rows(), checkpoint_dir=folder),
        "backtest": lambda overwrite: small(ready.model).backtest(
            _rows(), windows=1, baselines=False, checkpoint_dir=folder
        ),
    }
    made = {"ours": "save", "a grouped one": "save grouped", "a run": "forecast"}.get(before)
    what = random.choice([made or "save", *outputs])
    if made is not None:
        outputs[made](False)
    aside = random.random() < 0.15
    place = folder.with_name(f".{folder.name}.old") if aside else folder
    _plant(random, place)
    mine, overwrite = _planted(folder), random.random() < 0.7

    def run() -> object:
        try:
            return outputs[what](overwrite)
        finally:
            lost = mine - _planted(folder)
            for each in (folder, place, data):
                shutil.rmtree(each, ignore_errors=True) if each.is_dir() else each.unlink(missing_ok=True)
            if lost:
                raise Wrong(f"lost what is the user's: {sorted(lost)[:3]}")

    return Case(f"{what}({overwrite=}) on {before} and {sorted(mine)}", run)
