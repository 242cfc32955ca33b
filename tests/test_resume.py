r"""What is left when a process ends half way: fits go on to the same numbers, saved adapters stay whole."""

import multiprocessing
import os
import pickle
import random
import shutil
import time
from pathlib import Path

import killed
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from adapts import Adapter
from adapts.adapters import Residual
from adapts.foundation import FoundationModel
from adapts.persistence.ownership import SAVED, replaced

pytestmark = pytest.mark.skipif(
    "forkserver" not in multiprocessing.get_all_start_methods(), reason="this system forks no processes to kill"
)


@pytest.fixture(scope="module")
def start():
    r"""Starts a function of `killed` in a process of its own; gives the process and its pipe."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed"])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), before]))

    def begin(target, *arguments):
        here, there = context.Pipe()
        process = context.Process(target=target, args=(there, *arguments))
        process.start()
        there.close()
        return process, here

    yield begin
    os.environ.pop("PYTHONPATH")
    if before is not None:
        os.environ["PYTHONPATH"] = before


@pytest.mark.parametrize("family", sorted(killed.FAMILIES))
def test_a_fit_killed_at_any_moment_goes_on_to_the_same_numbers(family: str, start, tmp_path) -> None:
    process, pipe = start(killed.fit, family, None, tmp_path / "unbroken")
    pipe.recv()
    duration = pipe.recv()
    process.join()
    moments = random.Random(f"{family} 0")
    kills = 0
    for _ in range(4):
        process, pipe = start(killed.fit, family, tmp_path / "checkpoints", tmp_path / "killed")
        pipe.recv()
        time.sleep(moments.uniform(0, duration / 2))
        process.kill()
        process.join()
        kills += process.exitcode == -9
    if not (tmp_path / "killed").exists():
        process, _ = start(killed.fit, family, tmp_path / "checkpoints", tmp_path / "killed")
        process.join()
        assert process.exitcode == 0
    assert kills
    assert killed.numbers(tmp_path / "killed") == killed.numbers(tmp_path / "unbroken")


def test_a_save_killed_at_any_moment_leaves_a_whole_adapter(start, tmp_path) -> None:
    moments = random.Random(0)
    for number in range(5):
        folder = tmp_path / str(number) / "run"
        process, pipe = start(killed.saves, folder)
        both = [pipe.recv(), pipe.recv()]
        time.sleep(moments.uniform(0, 0.2))
        process.kill()
        process.join()
        assert folder.is_dir()
        loaded = Adapter.load(folder, foundation_model=killed.tiny_chronos_bolt()).predict().samples
        assert any(np.array_equal(loaded, samples) for samples in both)


def test_what_lies_beside_outlives_kills_and_what_they_left_is_removed(start, tmp_path) -> None:
    moments = random.Random(1)
    place = tmp_path / "run"
    (tmp_path / ".run.old").mkdir()
    (tmp_path / ".run-abcdefgh").mkdir()
    mine = [".run.old/thesis.tex", ".run-abcdefgh/config.json", "notes.txt", ".run.lock", "run.part"]
    for name in mine:
        (tmp_path / name).write_text(name)
    for _ in range(3):
        process, pipe = start(killed.saves, place)
        pipe.recv(), pipe.recv()
        time.sleep(moments.uniform(0, 0.05))
        process.kill()
        process.join()
        assert {name: (tmp_path / name).read_text() for name in mine} == {name: name for name in mine}
    killed.adapter("residual").fit(killed.series()).save(place, overwrite=True)
    names = {"run", *(name.partition("/")[0] for name in mine)}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_without_an_exchange_the_old_folder_is_found_beside_and_put_back(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("adapts.persistence.ownership._exchanged", lambda *_: False)  # as on Windows
    one = killed.adapter("residual").fit(killed.series())
    one.save(tmp_path / "run")
    (tmp_path / ".run-adapts-0123456789abcdef").mkdir()
    (tmp_path / ".run-adapts-0123456789abcdef" / "lock").touch()
    os.replace(tmp_path / "run", tmp_path / ".run-adapts-0123456789abcdef" / "old")  # a process was killed here
    again = Adapter.load(tmp_path / "run", foundation_model=killed.tiny_chronos_bolt())
    np.testing.assert_array_equal(again.predict().samples, one.predict().samples)
    with pytest.raises(ValueError, match="disk full"), replaced(tmp_path / "run", SAVED, overwrite=True):
        raise ValueError("disk full")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    again.save(tmp_path / "run", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    Adapter.load(tmp_path / "run", foundation_model=killed.tiny_chronos_bolt())


# ------------------------------------------------------------------------------------------------ the folder


class Mortal(FoundationModel):
    r"""Another model that counts its forecasts, and fails when it has made so many."""

    def __init__(self, model: FoundationModel, life: float = float("inf")) -> None:
        super().__init__(
            name=model.name, quantile_levels=model.quantile_levels, context_length=model.context_length,
            prediction_length=model.prediction_length,
        )  # fmt: skip
        self.model, self.life, self.made = model, life, 0
        self.freeze()

    def _forecast(self, context: Tensor) -> Tensor:
        self.made += len(context)
        if self.made > self.life:
            raise RuntimeError("the machine was switched off")
        return self.model._forecast(context)


def fitted(family: str, life: float = float("inf"), **options: object) -> tuple[dict[str, Tensor], int]:
    r"""The fitted tensors and the number of forecasts made for them."""
    one = killed.adapter(family)
    model = Mortal(one.model, life)
    one.set_params(foundation_model=model).fit(killed.series(), **options)
    return one.fitted_.state(), model.made


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("family", sorted(killed.FAMILIES))
def test_what_is_finished_is_not_computed_again(family: str, tmp_path) -> None:
    expected, made = fitted(family)
    for life in (0.3 * made, 0.5 * made):
        with pytest.raises(RuntimeError, match="switched off"):
            fitted(family, life, checkpoint_dir=tmp_path)
    tensors, rest = fitted(family, checkpoint_dir=tmp_path)
    assert_same(tensors, expected)
    assert rest < 0.7 * made
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fit.json", "stages.safetensors"]
    tensors, made = fitted(family, checkpoint_dir=tmp_path)
    assert made == 0
    assert_same(tensors, expected)


def test_the_folder_of_another_fit_is_refused_and_what_differs_named(tmp_path) -> None:
    one = killed.adapter("residual")
    one.fit(killed.series(), checkpoint_dir=tmp_path / "run")
    other = one.clone().set_params(seed=1, family__lags=3)
    with pytest.raises(
        ValueError, match=r"another job, .*family lags \(None there, 3 here\), option seed \(0 there, 1"
    ):
        other.fit(killed.series(), checkpoint_dir=tmp_path / "run")
    rows = killed.series()
    rows[5, 1] += 1e-9
    with pytest.raises(ValueError, match=r"differs in data sha256 .*: choose another folder, or delete this one"):
        one.fit(rows, checkpoint_dir=tmp_path / "run")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="holds 'thesis.tex', which is no checkpoint"):
        one.fit(killed.series(), checkpoint_dir=tmp_path / "mine")
    with pytest.raises(ValueError, match="is a file: choose another place"):
        one.fit(killed.series(), checkpoint_dir=tmp_path / "mine" / "thesis.tex")


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00"])
def test_a_note_that_the_disk_lost_is_told(text: str, tmp_path) -> None:
    (tmp_path / "fit.json").write_text(text)
    with pytest.raises(
        ValueError, match=r"fit.json, the record of the job .*, is empty or damaged: delete the folder .*, or choose"
    ):
        killed.adapter("residual").fit(killed.series(), checkpoint_dir=tmp_path)


def altered(path: Path) -> bytes:
    r"""The same piece with other numbers, and with the note of the old ones."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    return save({name: 2 * x if x.is_floating_point() else x for name, x in load_file(path).items()}, metadata)


#: What becomes of the files of a folder of checkpoints.
DAMAGE = {
    "cut short": lambda path: path.read_bytes()[:100],
    "cut": lambda path: path.read_bytes()[:-8],
    "empty": lambda path: b"",
    "junk": lambda path: b"junk" * 50,
    "a byte": lambda path: path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]),
    "other numbers": altered,
    "no metadata": lambda path: save(load_file(path)),
    "a pickle": lambda path: pickle.dumps({"state_dict": {}}),
}


@pytest.mark.parametrize(
    ("family", "damage"),
    [
        *(("residual", damage) for damage in DAMAGE),
        *(("gradient", damage) for damage in ("cut", "junk", "other numbers")),
    ],
)
def test_pieces_that_are_damaged_are_computed_again(family: str, damage: str, tmp_path, partial) -> None:
    expected, source = partial(family)
    shutil.copytree(source, tmp_path / "fit")
    for path in (tmp_path / "fit").iterdir():
        if path.name != "fit.json":
            path.write_bytes(DAMAGE[damage](path))
    assert_same(fitted(family, checkpoint_dir=tmp_path / "fit")[0], expected)
    again, made = fitted(family, checkpoint_dir=tmp_path / "fit")
    assert_same(again, expected)
    assert made == 0  # all is finished, whatever lies beside


@pytest.fixture(scope="module")
def partial(tmp_path_factory):
    r"""The tensors of a fit, and the folder that it leaves where it breaks off in the middle."""
    known = {}

    def made(family: str) -> tuple[dict[str, Tensor], Path]:
        if family not in known:
            expected, whole = fitted(family)
            folder = tmp_path_factory.mktemp(family)
            with pytest.raises(RuntimeError, match="switched off"):
                fitted(family, 0.6 * whole, checkpoint_dir=folder)
            names = {path.name.partition("-")[0] for path in folder.iterdir()}
            assert names >= ({"training.ckpt", "stages.safetensors"} if family == "gradient" else {"frozen"})
            known[family] = expected, folder
        return known[family]

    return made


def test_what_differs_in_type_alone_is_the_same_fit(tmp_path) -> None:
    one = killed.adapter("residual").fit(killed.series(), checkpoint_dir=tmp_path)
    other = one.clone().set_params(seed=np.int64(0), family=Residual(), trainer_options=dict(one.trainer_options))
    other.fit(killed.series(), checkpoint_dir=str(tmp_path))
    assert_same(other.fitted_.state(), one.fitted_.state())
