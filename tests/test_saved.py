r"""Saved adapters are data: what was changed is refused in our own words, and names nothing that is then opened."""

from __future__ import annotations

import copy
import json
import os
import pickle
import random
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from seasonal import SeasonalModel
from torch import Tensor
from typer.testing import CliRunner

import adapts
from adapts import Adapter, GroupedAdapter
from adapts.adapters import Autoencoder, Bayesian, Flow
from adapts.integrations.gluonts.predictor import AdapterPredictor
from adapts.persistence.saved_schema import digest
from adapts.persistence.tensors import kind_of, written
from adapts.testing.tiny import tiny_chronos_bolt

H = 4
DATA = Path(__file__).parent / "data"
HOSTILE = [
    None, True, False, 0, -1, 1.5, 1e300, 2**31, 2**63, 10**400, "", "x", "../x", "/etc/passwd", "a\0b", "x" * 10_000,
    [], {}, [None], ["x"], {"x": 1}, [[[[[[1]]]]]], float("nan"), float("inf"),
]  # fmt: skip


def series(items: int = 1, rows: int = 400) -> pd.DataFrame:
    time, noise = np.arange(rows)[:, None], np.random.default_rng(0)
    frames = []
    for number in range(items):
        values = np.sin(2 * np.pi * time / 12 + np.array([0.0, 1.0])) + 0.3 * noise.standard_normal((rows, 2))
        frame = pd.DataFrame(values, columns=["a", "b"])
        frame["timestamp"] = pd.date_range("2024-01-01", periods=rows, freq="h")
        frame["item_id"], frame["region"] = f"item {number}", f"region {number}"
        frames.append(frame)
    return pd.concat(frames)


def fitted(family: Any = "residual", *, items: int = 1, model: Any = None, **options: Any) -> Adapter:
    model = SeasonalModel() if model is None else model
    options = {"prediction_length": H, "context_length": 24, "max_windows": 60, **options}
    training = {"max_epochs": 1, "enable_progress_bar": False}
    one = Adapter(family, foundation_model=model, trainer_options=training, **options)
    return one.fit(series(items)[["timestamp", "item_id", "a", "b"]], item_column="item_id" if items > 1 else None)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "run"
    fitted().update(series(rows=430)[["timestamp", "a", "b"]]).save(folder)
    return folder


@pytest.fixture
def run(saved: Path, tmp_path: Path) -> Path:
    shutil.copytree(saved, tmp_path / "run")
    return tmp_path / "run"


def load(folder: Path) -> Adapter:
    return Adapter.load(folder, foundation_model=SeasonalModel())


def rewrite(
    folder: Path,
    change: Callable[[dict[str, Any]], object] = lambda _: None,
    tensors: Callable[[dict[str, Tensor]], object] = lambda _: None,
    *,
    seal: bool = True,
) -> None:
    r"""Changes a saved adapter; sealed, its digest is made again, as only one who means to deceive would."""
    file = folder / "adapter.safetensors"
    held = load_file(file)
    before = list(held.items())
    tensors(held)
    if [id(tensor) for tensor in held.values()] != [id(tensor) for _, tensor in before]:
        save_file({name: tensor.clone().contiguous() for name, tensor in held.items()}, file)
    config = json.loads((folder / "config.json").read_text())
    change(config)
    if seal:
        config["sha256"] = digest(config, file.read_bytes())
    (folder / "config.json").write_text(json.dumps(config))


def ours(error: BaseException) -> bool:
    r"""Whether an error is raised by a statement of this library, in words of a bounded length."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    here = Path(last.filename).is_relative_to(Path(adapts.__file__).parent) and (last.line or "").startswith("raise")
    return here and isinstance(error, ValueError | TypeError | OSError) and 0 < len(str(error)) < 2000


# ---------------------------------------------------------------------- what still loads


def test_an_adapter_of_format_2_still_loads_to_the_same_numbers() -> None:
    told = json.loads((DATA / "format_2_forecast.json").read_text())
    loaded = Adapter.load(DATA / "format_2", foundation_model=tiny_chronos_bolt())
    dates = pd.date_range("2024-01-01", periods=264, freq="h", tz="Europe/Paris")[-H:]
    future = pd.concat(
        pd.DataFrame({"item_id": item, "timestamp": dates, "price": price}) for item, price in told["price"].items()
    )
    for forecast in loaded.predict(future=future):
        np.testing.assert_allclose(forecast.mean, told["mean"][forecast.item_id], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(forecast.samples[:3], told["samples"][forecast.item_id], rtol=1e-4, atol=1e-4)


def test_an_adapter_of_format_2_is_saved_again_in_format_3(tmp_path: Path) -> None:
    Adapter.load(DATA / "format_2", foundation_model=tiny_chronos_bolt()).save(tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["format"] == 3 and config["tensors"]["location"] == "F64[2]"


# ---------------------------------------------------------------------- what was changed


def test_a_changed_config_does_not_bear_its_digest(run: Path) -> None:
    rewrite(run, lambda config: config["options"].update(seed=1), seal=False)
    with pytest.raises(ValueError, match=r"corrupt adapter: config.json or adapter.safetensors was changed since both"):
        load(run)


def places(content: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    entries = (
        content.items() if isinstance(content, dict) else enumerate(content[:2]) if isinstance(content, list) else ()
    )
    for key, value in entries:
        yield from places(value, (*place, key))


def put(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    content = copy.deepcopy(content)
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return content


def test_hostile_values_in_a_config_are_refused_or_harmless(run: Path) -> None:
    text, data = (run / "config.json").read_text(), (run / "adapter.safetensors").read_bytes()
    config, before = json.loads(text), load(run).predict().samples
    cases = [(place, value) for place in places(config) if place != ("sha256",) for value in HOSTILE]
    for place, value in random.Random(0).sample(cases, 250):
        changed = put(config, place, value)
        for seal in (False, True):
            if seal and isinstance(changed, dict) and "nan" not in json.dumps(changed).lower():
                try:
                    changed = {**changed, "sha256": digest(changed, data)}
                except ValueError:  # it is no JSON
                    continue
            (run / "config.json").write_text(json.dumps(changed))
            try:
                forecast = load(run).predict()
            except Exception as error:
                assert ours(error), f"{place} = {value!r:.50}: {error!r}"
            else:
                assert np.isfinite(forecast.samples).all(), (place, value)
                assert seal or np.array_equal(forecast.samples, before), (place, value)


def changes(name: str, tensor: Tensor) -> dict[str, Callable[[dict[str, Tensor]], object]]:
    made: dict[str, Tensor] = {
        "as whole numbers": tensor.nan_to_num(0.0, 0.0, 0.0).long() if tensor.is_floating_point() else tensor.double(),
        "empty": tensor.new_empty(0),
        "with another axis": tensor[None],
        "twice as long": torch.cat([tensor, tensor]) if tensor.ndim else torch.stack([tensor, tensor]),
    }
    if tensor.is_floating_point() and tensor.numel():
        made |= {f"{value}": torch.full_like(tensor, value) for value in (torch.nan, torch.inf, -torch.inf, 1e30, -1.0)}
    else:
        made |= {f"{value}": torch.full_like(tensor, value) for value in (-1, 2**31 - 1)}
    replaced = {what: lambda held, x=x: held.update({name: x}) for what, x in made.items()}
    return {"missing": lambda held: held.pop(name), "renamed": lambda held: held.update(x=held.pop(name)), **replaced}


def test_hostile_tensors_are_refused_or_harmless(saved: Path, run: Path) -> None:
    cases = [(name, what, do) for name, x in load_file(saved / "adapter.safetensors").items()
             for what, do in changes(name, x).items()]  # fmt: skip
    for number, (name, what, do) in enumerate(random.Random(0).sample(cases, 200)):
        shutil.copytree(saved, run, dirs_exist_ok=True)
        rewrite(run, tensors=do)
        table = bool(number % 2)
        if table:  # the config lists what is there now
            kinds = {key: written(kind_of(x)) for key, x in load_file(run / "adapter.safetensors").items()}
            rewrite(run, lambda config, kinds=kinds: config.update(tensors=kinds))
        try:
            forecast = load(run).predict()
        except Exception as error:
            assert ours(error), f"{name} {what}: {error!r}"
        else:
            assert table or what not in ("missing", "renamed", "empty", "with another axis", "twice as long"), name
            assert np.isfinite(forecast.samples).all(), (name, what)


@pytest.mark.parametrize("name", ["gate", "bands.time", "module.weights", "kriging.errors", "online.tracked"])
def test_a_tensor_that_was_dropped_is_missed(run: Path, name: str) -> None:
    rewrite(run, tensors=lambda held: held.pop(name))
    with pytest.raises(ValueError, match=f"its config lists the tensor '{name}' as .*, got none"):
        load(run)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("scale", 0.0, "the tensor 'scale' is expected to hold positive numbers"),
        ("location", torch.nan, "the tensor 'location' holds NaN"),
        ("support", 1.0, "'support' is expected to hold minimum values below the maximum"),
        ("noise", -1.0, r"the tensor 'noise' holds values outside of \[0, inf\]"),
        ("gate", 2.0, r"the tensor 'gate' holds values outside of \[0, 1\]"),
        ("module.weights", torch.nan, "the tensor 'weights' of Residual holds values that are not finite"),
        ("module.covariance", 0.0, "the covariance of Residual is expected to be positive definite"),
        ("online.tracked", 9.0, r"the tensor 'tracked' holds values outside of \[-5, 5\]"),
        ("bands.memory", -1, "the tensor 'memory' holds values outside"),
        ("kriging.correlation", 0.5, "the tensor 'correlation' is expected to begin with 1"),
        ("coupling.covariance", 0.0, "the tensor 'covariance' is expected to be symmetric and positive definite"),
        ("clock.0", 0, "the tensor 'clock.0' holds dates that do not follow each other by the frequency 'h'"),
        ("rows.0", torch.inf, "the tensor 'rows.0' holds infinite values"),
    ],
)
def test_values_that_no_fit_leaves_behind_are_named(run: Path, name: str, value: float, message: str) -> None:
    rewrite(run, tensors=lambda held: held.update({name: torch.full_like(held[name], value)}))
    with pytest.raises(ValueError, match=message):
        load(run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.update(context_length=1), "context_length is 24 and 1"),
        (lambda config: config["options"].update(prediction_length=2**31), "corrupt adapter"),
        (lambda config: config.update(frequency="9" * 5000 + "D"), "has the key 'frequency'"),
        (lambda config: config.update(frequency="D"), "do not follow each other by the frequency 'D'"),
        (lambda config: config["items"][0].update(zone="dateutil//etc/localtime"), "'items.0.zone', which should be a"),
        (lambda config: config.update(channels=["a", "a"]), "should name each channel once"),
        (lambda config: config.update(known_covariates=["c"]), "should name the targets among the channels, then"),
        (lambda config: config["options"].pop("gate"), "the options lack 'gate'"),
        (lambda config: config.update(format=99), "was saved in format 99 by adapts .* reads the formats 2 and 3"),
        (lambda config: config.update(formt=3), r"no key of .*config.json is called 'formt'.* \(did you mean 'format'"),
        (lambda config: config.update({f"k{n}": n for n in range(100_000)}), "no key of .*config.json is called 'k0'"),
        (
            lambda config: config["stages"].update(gate="x" * 10_001),
            "'stages.gate.reason', which should have at most 10000 characters",
        ),
        (lambda config: config.update(stages=3), r"has the key 'stages', which should be .*, got 3 \(int\)"),
    ],
)
def test_what_is_wrong_in_a_config_is_named(run: Path, change: Callable[..., object], message: str) -> None:
    rewrite(run, change)
    with pytest.raises(ValueError, match=message):
        load(run)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 3, "x": ' + "[" * 100_000 + "]" * 100_000 + "}", r"is not valid JSON \(it is nested too deeply\)"),
        ('{"format": 3, "x": ' + "1" * 5000 + "}", r"is not valid JSON \(Exceeds the limit"),
        ('{"format": NaN}', r"is not valid JSON \(it holds NaN, which is no JSON\)"),
        ('{"format": 1e999}', r"is not valid JSON \(it holds 1e999, which exceeds"),
        ('{"format": 3, "format": 3}', r"is not valid JSON \(it holds the key 'format' twice\)"),
        ("{" + "".join(f'"{n}": 1, ' for n in range(100_000)) + '"7": 1}', r"it holds the key '7' twice"),
        ("[3]", "is not the config of an adapter: it has no format and family"),
        ("\udcff", "cannot be read .*give a file of UTF-8 text"),
    ],
)
def test_a_config_that_is_no_json_of_ours(run: Path, text: str, message: str) -> None:
    (run / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=message):
        load(run)


def test_only_regular_files_of_a_bounded_size_are_read(run: Path) -> None:
    config = run / "config.json"
    config.unlink()
    os.mkfifo(config)
    with pytest.raises(ValueError, match="config.json is no regular file"):
        load(run)
    config.unlink()
    with config.open("wb") as file:
        file.truncate(2**40)  # a file of holes
    with pytest.raises(ValueError, match=r"config.json has 1099511627776 bytes, expected at most 67108864"):
        load(run)


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        (Autoencoder(hidden=4), {"hidden": 2**30}, "larger than its saved tensors|hidden"),
        (Autoencoder(hidden=4), {"depth": 10**6}, "has more tensors than were saved|depth"),
        (Flow(transforms=1, hidden=4), {"transforms": 10**6}, "has more tensors than were saved|transforms"),
        (Bayesian(), {"base": "../x"}, "no adapter is called '../x'"),
        (Autoencoder(hidden=4), {"latent_channels": 10**6}, "latent_channels=1000000"),
    ],
)
def test_no_option_of_a_file_makes_a_family_larger_than_its_tensors(
    family: Any, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    fitted(family).save(tmp_path / "run")
    rewrite(tmp_path / "run", lambda config: config["family_options"].update(change))
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "run")


# ---------------------------------------------------------------------- which frozen model


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    tiny_chronos_bolt().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


opened: list[str] = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event in ("open", "socket.connect") else None)


@pytest.mark.parametrize("address", ["{folder}", "../model", "evil/repository", "bolt-nano/../../x", 5])
def test_an_address_in_a_file_is_not_followed(run: Path, checkpoint: Path, address: Any) -> None:
    address = str(checkpoint) if address == "{folder}" else address
    rewrite(run, lambda config: config["options"].update(foundation_model=address))
    opened.clear()
    with pytest.raises(ValueError, match="is none of those that .adapts list models. prints, and is not loaded"):
        Adapter.load(run)
    assert opened and not [path for path in opened if "model" in Path(path).parts or "huggingface" in path]


def test_a_known_name_must_be_that_of_the_model_of_the_fit(run: Path) -> None:
    rewrite(run, lambda config: config["options"].update(foundation_model="bolt-nano"))
    with pytest.raises(ValueError, match="names the foundation model 'bolt-nano', and was fitted with 'seasonal"):
        Adapter.load(run)
    rewrite(run, lambda config: config["foundation_model"].update(name="bolt-nano"))
    with pytest.raises(ValueError, match=r"found bolt-nano .* choose a model with Adapter.load\('"):
        Adapter.load(run)


def test_every_entry_point_says_the_call_that_names_the_model(checkpoint: Path, tmp_path: Path) -> None:
    one, name = fitted(model=checkpoint), repr(str(checkpoint))
    one.save(tmp_path / "one")
    grouped = GroupedAdapter(one.clone(), "region").fit(series(2), item_column="item_id")
    grouped.save(tmp_path / "many")
    predictor = AdapterPredictor(one)
    predictor.serialize(tmp_path / "predictor")
    folders = {each: str(tmp_path / each) for each in ("one", "many", "predictor")}
    calls = {
        f"Adapter.load({folders['one']!r}, foundation_model={name})": lambda: Adapter.load(folders["one"]),
        f"GroupedAdapter.load({folders['many']!r}, foundation_model={name})": lambda: GroupedAdapter.load(
            folders["many"]
        ),
        f"AdapterPredictor.deserialize(Path({folders['predictor']!r}), foundation_model={name})": (
            lambda: AdapterPredictor.deserialize(Path(folders["predictor"]))
        ),
    }
    for call, refused in calls.items():
        with pytest.raises(ValueError) as error:
            refused()
        assert call in str(error.value)
        eval(call, {**globals(), "Path": Path})
    series()[["timestamp", "a", "b"]].to_csv(tmp_path / "data.csv", index=False)
    from adapts.cli import app

    typed = ["forecast", str(tmp_path / "data.csv"), "--from", folders["one"], "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(app, typed)
    assert result.exit_code == 2
    assert f"--foundation-model{name}".replace(" ", "") in "".join(result.stderr.split())
    assert CliRunner().invoke(app, [*typed, "--foundation-model", str(checkpoint)]).exit_code == 0


def test_an_unpickled_adapter_takes_a_model_that_is_named(checkpoint: Path, tmp_path: Path) -> None:
    one = fitted(model=str(checkpoint))
    forecast, packed = one.predict().samples, pickle.dumps(one)
    np.testing.assert_array_equal(pickle.loads(packed).predict().samples, forecast)
    checkpoint.rename(tmp_path / "moved")
    again = pickle.loads(packed)
    with pytest.raises(
        ValueError,
        match=r"the foundation model of the unpickled adapter cannot be loaded .*adapter.use_foundation_model\(model\)",
    ):
        again.predict()
    np.testing.assert_array_equal(again.use_foundation_model(tmp_path / "moved").predict().samples, forecast)
    tiny_chronos_bolt(seed=1).save_pretrained(checkpoint)
    with pytest.raises(ValueError, match=r"fitted around another foundation model .*use_foundation_model\(model\)"):
        pickle.loads(packed).predict()


def test_an_unpickled_grouped_adapter_takes_a_model_that_is_named(checkpoint: Path, tmp_path: Path) -> None:
    one = Adapter("residual", foundation_model=str(checkpoint), prediction_length=H, context_length=24, max_windows=40)
    grouped = GroupedAdapter(one, "region").fit(series(2), item_column="item_id")
    forecasts = [forecast.samples for forecast in grouped.predict()]
    packed = pickle.dumps(grouped)
    checkpoint.rename(tmp_path / "moved")
    again = pickle.loads(packed).use_foundation_model(tmp_path / "moved")
    np.testing.assert_array_equal([forecast.samples for forecast in again.predict()], forecasts)


def test_a_pickle_is_checked_as_a_file_is() -> None:
    state = fitted().__getstate__()
    config, tensors, sha256 = state["packed"]
    for changed in (
        ({**config, "stages": 3}, tensors, sha256),
        (config, {**tensors, "scale": torch.zeros(2, dtype=torch.float64)}, sha256),
        (config, {name: x for name, x in tensors.items() if name != "gate"}, sha256),
    ):
        with pytest.raises(ValueError, match=r"stages|scale|gate"):
            Adapter.__new__(Adapter).__setstate__({**state, "packed": changed})


# ---------------------------------------------------------------------- groups


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    one = Adapter("residual", foundation_model=SeasonalModel(), prediction_length=H, context_length=24, max_windows=40)
    folder = tmp_path_factory.mktemp("groups") / "run"
    GroupedAdapter(one, "region").fit(series(2), item_column="item_id").save(folder)
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config["groups"].update({"region 0": "../../outside"}), "is '[0-9a-f]{16}', got '../../o"),
        (
            lambda config: config["groups"].update({"region 0": config["groups"]["region 1"]}),
            "the folder of group 'region 0' is",
        ),
        (lambda config: config["groups"].update({"region 0": 1}), r"groups.region 0.* should be text, got 1"),
        (lambda config: config.update(groups={}), "groups"),
        (
            lambda config: config.update(items=[["item 0", "region 1"], ["item 1", "region 0"]]),
            "holds other items than",
        ),
        (lambda config: config.update(items=5), "'items'"),
        (lambda config: config.update(item_column=5), "'item_column'"),
        (lambda config: config.update(roles=5), "'roles'"),
        (lambda config: config.update(format=99), "was saved in format 99"),
    ],
)
def test_what_is_wrong_in_the_config_of_groups_is_named(
    groups: Path, tmp_path: Path, change: Callable[..., object], message: str
) -> None:
    shutil.copytree(groups, tmp_path / "run")
    config = json.loads((groups / "config.json").read_text())
    change(config)
    (tmp_path / "run" / "config.json").write_text(json.dumps({**config, "sha256": digest(config)}))
    with pytest.raises(ValueError, match=message):
        GroupedAdapter.load(tmp_path / "run", foundation_model=SeasonalModel())


def test_the_config_of_groups_has_a_digest(groups: Path, tmp_path: Path) -> None:
    shutil.copytree(groups, tmp_path / "run")
    text = (groups / "config.json").read_text()
    (tmp_path / "run" / "config.json").write_text(text.replace('"group_column": "region"', '"group_column": "regio"'))
    with pytest.raises(ValueError, match=r"corrupt grouped adapter: config.json was changed since it was saved"):
        GroupedAdapter.load(tmp_path / "run", foundation_model=SeasonalModel())


def test_the_options_of_a_predictor_are_checked(tmp_path: Path) -> None:
    AdapterPredictor(fitted()).serialize(tmp_path)
    for text, message in {
        '{"num_samples": 0}': "num_samples",
        "[]": "must be a mapping",
        "{": "not valid JSON",
    }.items():
        (tmp_path / "predictor.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            AdapterPredictor.deserialize(tmp_path, foundation_model=SeasonalModel())
