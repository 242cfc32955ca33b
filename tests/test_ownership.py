r"""Nothing that we did not write is ever deleted, moved or replaced, whatever we write and however it ends."""

import os
import resource
import shutil
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cli_files import forecast, run, series
from safetensors.torch import save_file

from adapts import Adapter, GroupedAdapter
from adapts.persistence import ownership
from adapts.persistence.checkpoints import Checkpoints
from adapts.persistence.ownership import BACKTEST, RUN, SAVED, as_path, replaced, why_foreign
from adapts.testing.tiny import tiny_chronos_bolt

MODEL = tiny_chronos_bolt()
HEADER = ",".join(["item_id", "timestamp", "channel", "mean", *(f"{step / 20:g}" for step in range(1, 20))]) + "\n"
QUICK = ("--family", "identity", "--num-samples", 10, "--max-windows", 20, "--quiet")


def adapter() -> Adapter:
    return Adapter("identity", foundation_model=MODEL, prediction_length=8, context_length=32, max_windows=40)


@pytest.fixture(scope="module")
def one() -> Adapter:
    return adapter().fit(noise())


def long() -> pd.DataFrame:
    return pd.concat([series()[["a", "c"]].reset_index().assign(item_id=name, shop=name) for name in "uv"])


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((200, 2))


def link(path: Path) -> None:
    outside = path.parent.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "thesis.tex").write_text("years of work")
    path.symlink_to(outside)


def fill(path: Path) -> None:
    path.mkdir()
    (path / "config.json").write_text("only copy")
    (path / "film.mkv.part").write_bytes(b"half")


def listen(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's whole path is short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path.name)
    os.chdir(here)


#: What others may have in a folder: its name, and what makes it.
FOREIGN: dict[str, Callable[[Path], object]] = {
    "notes.txt": lambda path: path.write_text("mine"),
    "empty": lambda path: path.touch(),
    "photo.raw": lambda path: path.write_bytes(bytes(range(256)) * 50),
    "film.mkv.part": lambda path: path.write_bytes(b"half a film"),
    "stages.safetensors.part": lambda path: path.write_bytes(b"half a model"),
    "training.ckpt.part": lambda path: path.touch(),
    ".hidden": lambda path: path.write_text("mine"),
    "Config.json": lambda path: path.write_text('{"format": 2, "family": "mine"}'),
    "link": link,
    "pipe": os.mkfifo,
    "data": fill,
    "socket": listen,
}


def found(folder: Path) -> dict[str, object]:
    r"""All that is in a folder, at every depth: files byte by byte, links by where they lead, the rest by its kind."""
    told: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            told[name] = os.readlink(path)
        else:
            told[name] = path.read_bytes() if path.is_file() else os.lstat(path).st_mode
    return told


@pytest.fixture(scope="module")
def written(one, tmp_path_factory):
    r"""One of every folder that we write."""
    folder = tmp_path_factory.mktemp("written")
    series().to_csv(folder / "series.csv")
    assert forecast(folder / "series.csv", folder / "run", *QUICK).exit_code == 0
    result = run("forecast", folder / "series.csv", "--from", folder / "run" / "adapter", "--output", folder / "from")
    assert result.exit_code == 0, result.stderr
    given = ["--prediction-length", 8, "--context-length", 48, "--windows", 2, "--output", folder / "scores"]
    result = run("backtest", folder / "series.csv", *given, "--checkpoint-dir", folder / "checkpoints", *QUICK)
    assert result.exit_code == 0, result.stderr
    one.save(folder / "saved")
    GroupedAdapter(adapter(), "shop").fit(long()).save(folder / "grouped")
    return folder


@pytest.fixture
def place(written, tmp_path):
    shutil.copytree(written, tmp_path / "place")
    return tmp_path / "place"


@pytest.fixture(scope="module")
def overwrite(one, written):
    r"""What writes each folder anew, over what stands there; returns its error, if it ends in one."""
    many = GroupedAdapter(adapter(), "shop").fit(long())

    def told(save: Callable[..., None], path: Path) -> str:
        try:
            save(path, overwrite=True)
        except (OSError, ValueError) as error:
            return str(error)
        return ""

    def command(*words: object) -> str:
        result = run(*words, "--overwrite")
        assert result.exit_code in (0, 2) and "Traceback" not in result.stderr
        return result.stderr

    data = written / "series.csv"
    given = ["--prediction-length", 8, "--context-length", 48, *QUICK]
    return {
        "saved": lambda path: told(one.save, path),
        "grouped": lambda path: told(many.save, path),
        "run": lambda path: command("forecast", data, *given, "--output", path),
        "from": lambda path: command("forecast", data, "--from", written / "run" / "adapter", "--output", path),
        "scores": lambda path: command("backtest", data, *given, "--windows", 2, "--output", path),
    }


def group(place: Path) -> Path:
    return next((place / "grouped" / "groups").iterdir())


#: Every folder that an output is made of.
DEPTHS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "saved": ("saved", lambda place: place / "saved"),
    "grouped": ("grouped", lambda place: place / "grouped"),
    "groups": ("grouped", lambda place: place / "grouped" / "groups"),
    "a group": ("grouped", group),
    "run": ("run", lambda place: place / "run"),
    "the adapter of a run": ("run", lambda place: place / "run" / "adapter"),
    "from": ("from", lambda place: place / "from"),
    "scores": ("scores", lambda place: place / "scores"),
}


class TestOutputs:
    @pytest.mark.parametrize("depth", DEPTHS)
    def test_a_folder_that_holds_anything_else_at_any_depth_is_refused_and_kept(self, depth, place, overwrite):
        output, inside = DEPTHS[depth]
        for name, make in FOREIGN.items():
            path = inside(place) / name
            make(path)
            before = found(place)
            message = overwrite[output](place / output)
            assert "would be replaced, and it holds '" in message and f"{name}'" in message, name
            assert found(place) == before
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    @pytest.mark.parametrize("output", ["saved", "grouped", "run", "from", "scores"])
    def test_a_file_of_our_name_that_is_not_ours_is_refused_and_kept(self, output, place, overwrite):
        for path in sorted((place / output).rglob("*")):
            if path.is_dir():
                continue
            ours = path.read_bytes()
            for other in (b"mine", b"", ours[1:], b"\x89PNG\r\n\x1a\nmine" if path.suffix == ".png" else b"{}"):
                path.write_bytes(other)
                before = found(place)
                assert path.name in overwrite[output](place / output)
                assert found(place) == before
            path.unlink()
            path.symlink_to(place / "series.csv")
            assert path.name in overwrite[output](place / output)
            path.unlink()
            path.mkdir()
            assert path.name in overwrite[output](place / output)
            path.rmdir()
            path.write_bytes(ours)

    @pytest.mark.parametrize("output", ["saved", "grouped", "run", "from", "scores"])
    def test_what_is_ours_is_replaced_and_what_lies_beside_is_kept(self, output, place, overwrite):
        for name, make in FOREIGN.items():
            make(place / name)
        for name in (f".{output}.old", f".{output}-abcdefgh", f".{output}-adapts-0123456789abcdef"):
            fill(place / name)
        (place / f".{output}.part").touch()
        (place / f".{output}.lock").write_text("mine")
        before = found(place)
        stamp = os.stat(place / output).st_ino
        assert overwrite[output](place / output) == "" or output in ("run", "from", "scores")
        after = found(place)
        assert os.stat(place / output).st_ino != stamp
        assert after.keys() == before.keys()
        kept = [name for name in before if not name.startswith(f"{output}/") and name != output]
        assert {name: after[name] for name in kept} == {name: before[name] for name in kept}

    def test_a_file_that_comes_while_we_write_is_kept_and_the_output_refused(self, place):
        before = found(place)
        words = "run would be replaced, and it holds 'adapter/notes.txt', which adapts did not write"
        with pytest.raises(ValueError, match=words), replaced(place / "run", RUN, overwrite=True) as new:
            (new / "forecast.csv").write_text(HEADER)
            (place / "run" / "adapter" / "notes.txt").write_text("mine")
        (place / "run" / "adapter" / "notes.txt").unlink()
        assert found(place) == before

    @pytest.mark.parametrize("exchanges", [True, False])
    def test_a_file_that_comes_at_the_last_instant_is_kept_and_its_place_told(
        self, exchanges, place, monkeypatch, caplog
    ):
        real = ownership._exchanged

        def late(new: Path, there: Path) -> bool:
            (there / "notes.txt").write_text("mine")
            return exchanges and real(new, there)

        monkeypatch.setattr(ownership, "_exchanged", late)
        with replaced(place / "scores", BACKTEST, overwrite=True) as new:
            (new / "scores.csv").write_text("model,channel,lead_block,metric,value\n")
        assert os.listdir(place / "scores") == ["scores.csv"]
        (message,) = caplog.messages
        kept = Path(message.rpartition("kept as ")[2])
        assert {"notes.txt", "scores.csv", "reliability.png"} <= {*os.listdir(kept)}
        monkeypatch.setattr(ownership, "_exchanged", real)
        with replaced(place / "scores", BACKTEST, overwrite=True) as new:  # which leaves it there too
            (new / "scores.csv").write_text("model,channel,lead_block,metric,value\n")
        assert (kept / "notes.txt").read_text() == "mine"

    def test_an_output_that_fails_leaves_nothing(self, place):
        before = found(place)
        with pytest.raises(KeyboardInterrupt), replaced(place / "new" / "run", RUN, overwrite=False) as new:
            (new / "forecast.csv").write_text("item")
            raise KeyboardInterrupt
        (place / "new").rmdir()
        assert found(place) == before


class TestWhatWasLeft:
    def test_an_adapter_that_was_left_beside_is_put_back_before_it_is_checked(self, place):
        other = adapter().fit(noise(1))
        (place / ".run2-adapts-0123456789abcdef").mkdir()
        (place / ".run2-adapts-0123456789abcdef" / "lock").touch()
        os.rename(place / "saved", place / ".run2-adapts-0123456789abcdef" / "old")
        seen = Adapter.load(place / "run2", foundation_model=MODEL).predict().mean
        with pytest.raises(ValueError, match="run2 exists and is kept"):
            other.save(place / "run2")
        assert np.array_equal(Adapter.load(place / "run2", foundation_model=MODEL).predict().mean, seen)
        assert not [name for name in os.listdir(place) if name.startswith(".")]

    def test_an_adapter_under_a_name_of_earlier_versions_is_read_and_stays(self, place):
        os.rename(place / "saved", place / ".run2.old")
        before, other = found(place / ".run2.old"), adapter().fit(noise(1))
        seen = Adapter.load(place / "run2", foundation_model=MODEL).predict().mean
        with pytest.raises(ValueError, match=r"run2.old is read in place of .*run2, .* move it"):
            other.save(place / "run2")
        assert np.array_equal(Adapter.load(place / "run2", foundation_model=MODEL).predict().mean, seen)
        other.save(place / "run2", overwrite=True)
        assert found(place / ".run2.old") == before

    def test_a_hidden_folder_without_our_lock_stays(self, one, place):
        (place / ".run2-adapts-settings" / "new").mkdir(parents=True)
        (place / ".run2-adapts-settings" / "new" / "config.json").write_text('{"mine": 1}')
        (place / ".run2-adapts-my_notes").mkdir()
        before = found(place)
        one.save(place / "run2")
        assert {name: x for name, x in found(place).items() if not name.startswith("run2")} == before

    def test_a_file_of_others_in_a_hidden_folder_stays(self, one, place):
        for number, (name, text) in enumerate({"file": "my only copy", "new/config.json": '{"mine": 1}'}.items()):
            hidden = place / f".run2-adapts-{number:016x}"
            (hidden / name).parent.mkdir(parents=True)
            (hidden / "lock").touch()
            (hidden / name).write_text(text)
        before = found(place)
        one.save(place / "run2")
        with ownership.replaced_file(place / "run2.yaml", ownership.RECIPE) as file:
            file.write_text("# Written by adapts.tune\nfamily: identity\n")
        shutil.copytree(place / ".run2-adapts-0000000000000000", place / ".run2.yaml-adapts-0000000000000000")
        with ownership.replaced_file(place / "run2.yaml", ownership.RECIPE) as file:
            file.write_text("# Written by adapts.tune\nfamily: vae\n")
        assert (place / ".run2.yaml-adapts-0000000000000000" / "file").read_text() == "my only copy"
        assert {name: x for name, x in found(place).items() if not name.startswith(("run2", ".run2.y"))} == before

    def test_the_folder_that_a_process_works_in_is_not_replaced(self, one, place, monkeypatch):
        monkeypatch.chdir(place / "saved")
        for path in (".", ".."):
            with pytest.raises(ValueError, match="is or contains the working directory.*: choose a folder in it"):
                one.save(path, overwrite=True)

    def test_the_mode_of_a_folder_stays(self, one, place):
        (place / "saved").chmod(0o750)
        one.save(place / "saved", overwrite=True)
        assert (place / "saved").stat().st_mode & 0o777 == 0o750

    def test_what_is_not_ours_is_not_put_back(self, one, place):
        fill(place / ".run2.old")
        (place / ".run3.old").symlink_to("saved")
        shutil.copytree(place / "saved", place / ".run2-adapts-0123456789abcdef" / "old")
        (place / ".run2-adapts-0123456789abcdef" / "old" / "notes.txt").write_text("mine")
        before = found(place)
        for name in ("run2", "run3"):
            with pytest.raises(ValueError, match="no folder"):
                Adapter.load(place / name, foundation_model=MODEL)
            one.save(place / name)
        assert {name: x for name, x in found(place).items() if not name.startswith(("run2", "run3"))} == before

    def test_folders_of_killed_processes_are_removed_and_others_kept(self, one, place):
        torn = place / ".saved-adapts-0000000000000000" / "new"
        torn.mkdir(parents=True)
        (torn.parent / "lock").touch()
        (torn / "adapter.safetensors").write_bytes((place / "saved" / "adapter.safetensors").read_bytes()[:100])
        (torn / "config.json").write_text('{\n  "for')
        (place / ".saved-adapts-1111111111111111").mkdir()
        with ownership.locked(place / ".saved-adapts-2222222222222222"):  # of a process that lives
            fill(place / ".saved-adapts-3333333333333333")
            one.save(place / "saved", overwrite=True)
            left = sorted(name for name in os.listdir(place) if name.startswith(".saved"))
            assert left == [".saved-adapts-2222222222222222", ".saved-adapts-3333333333333333"]

    def test_two_that_write_one_output_at_a_time_do_not_disturb_each_other(self, one, tmp_path):
        told: list[OSError | ValueError] = []

        def save() -> None:
            try:
                for _ in range(40):
                    one.save(tmp_path / "run", overwrite=True)
            except (OSError, ValueError) as error:
                told.append(error)

        one.save(tmp_path / "run")
        threads = [threading.Thread(target=save) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not told and os.listdir(tmp_path) == ["run"] and why_foreign(tmp_path / "run", SAVED) is None

    def test_a_link_is_followed_and_kept(self, one, place):
        (place / "link").symlink_to("saved")
        one.save(place / "link", overwrite=True)
        assert os.readlink(place / "link") == "saved" and why_foreign(place / "saved", SAVED) is None


def pieces(folder: Path, **fingerprint: object) -> Checkpoints:
    return Checkpoints(folder, {"versions": {"adapts": "1"}, **fingerprint})


class TestCheckpoints:
    @pytest.mark.parametrize("name", [*FOREIGN, "fit.json", "stages.safetensors", "trials.log"])
    def test_a_folder_of_others_is_refused_untouched(self, name, tmp_path):
        (tmp_path / "mine").mkdir()
        make = FOREIGN.get(name, lambda path: path.write_text('{"run": "10 km"}'))
        make(tmp_path / "mine" / name)
        before = found(tmp_path)
        with pytest.raises(ValueError, match=f"holds '{name}', which is no checkpoint: choose another folder"):
            adapter().fit(noise(), checkpoint_dir=tmp_path / "mine")
        assert found(tmp_path) == before

    def test_files_of_others_in_a_folder_of_ours_stay_and_the_fit_goes_on(self, tmp_path):
        expected = adapter().fit(noise()).predict().mean
        adapter().fit(noise(), checkpoint_dir=tmp_path / "fit")
        (tmp_path / "fit" / "stages.safetensors").unlink()
        for name, make in FOREIGN.items():
            make(tmp_path / "fit" / name)
        (tmp_path / "fit" / "stages.safetensors").write_text("mine")
        (tmp_path / "fit" / "training.ckpt").write_bytes(b"PK mine")
        save_file({}, tmp_path / "fit" / "frozen-train-0.safetensors", {"about": "null"})
        fill(tmp_path / "fit" / ".adapts")
        fill(tmp_path / "fit" / ".adapts" / "abcdefgh")
        (tmp_path / "fit" / ".adapts" / "abcdefgh" / "a.safetensors").write_text("mine")
        before = found(tmp_path)
        for _ in range(2):
            fitted = adapter().fit(noise(), checkpoint_dir=tmp_path / "fit")
            assert np.array_equal(fitted.predict().mean, expected)
            after = found(tmp_path)
            assert after.keys() - before.keys() == {"fit/stages (2).safetensors"}
            assert {name: after[name] for name in before} == before

    def test_a_copy_of_a_piece_under_another_name_is_not_ours(self, tmp_path):
        with pieces(tmp_path) as one:
            one.keep("a", {})
            shutil.copy(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
            assert one.read("b") is None
            one.finish([])
        assert sorted(os.listdir(tmp_path)) == ["b.safetensors", "fit.json"]

    def test_a_folder_is_used_by_one_at_a_time(self, tmp_path):
        told = []

        def second() -> None:
            try:
                adapter().fit(noise(), checkpoint_dir=tmp_path)
            except ValueError as error:
                told.append(str(error))

        with pieces(tmp_path):
            thread = threading.Thread(target=second)
            thread.start()
            thread.join()
            before = found(tmp_path)
            second()
            assert found(tmp_path) == before
        words = f"another process or thread uses the checkpoints in {tmp_path}: wait until it has ended, or choose"
        assert len(told) == 2 and all(message.startswith(words) for message in told)

    def test_an_error_releases_the_folder(self, tmp_path):
        with pytest.raises(RuntimeError, match="off") as kept, pieces(tmp_path):  # whose frames live as long as it does
            raise RuntimeError("off")
        with pieces(tmp_path):
            pass
        assert kept and os.listdir(tmp_path) == ["fit.json"]
        with pytest.raises(ValueError, match="differs in seed"), pieces(tmp_path, seed=1):
            pass
        assert os.listdir(tmp_path) == ["fit.json"]


class TestPaths:
    @pytest.mark.parametrize(
        ("given", "error", "words"),
        [
            (None, TypeError, "to be a path, text or os.PathLike, got None"),
            (b"run", TypeError, "got b'run'"),
            ("", ValueError, "got '', an invalid file name"),
            ("a\0b", ValueError, "an invalid file name"),
            ("\ud800", ValueError, "an invalid file name"),
            ("x" * 5000, ValueError, "at most 4095 bytes, 255 a name, got 'xxx"),
            ("/".join("x" * 5000), ValueError, "choose a shorter one"),
        ],
    )
    def test_what_no_file_can_be_called_is_told(self, one, given, error, words):
        calls = [lambda: one.save(given), lambda: Adapter.load(given)]
        if given is not None:  # which keeps nothing
            calls.append(lambda: adapter().fit(noise(), checkpoint_dir=given))
        for call in calls:
            with pytest.raises(error, match=words) as told:
                call()
            assert len(str(told.value)) < 400
        assert as_path("path", Path("run")) == Path("run")

    def test_devices_and_pipes_are_no_folders(self, one, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        for path in ("/dev/null", tmp_path / "pipe"):
            with pytest.raises(ValueError, match=f"expected a folder to write to, but {path} is a file"):
                one.save(path, overwrite=True)
            with pytest.raises(ValueError, match=f"expected a folder for checkpoints, but {path} is a file"):
                adapter().fit(noise(), checkpoint_dir=path)
            result = run("forecast", "greensboro", "--prediction-length", 8, "--output", path, "--overwrite")
            assert result.exit_code == 2 and f"but {path} is a file" in result.stderr

    def test_a_disk_that_is_full_is_told_and_the_old_state_stays(self, one, tmp_path):
        one.save(tmp_path / "run")
        before = found(tmp_path)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        with ExitStack() as stack:
            stack.callback(resource.setrlimit, resource.RLIMIT_FSIZE, hard)
            resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard[1]))
            with pytest.raises(OSError, match=r"run cannot be written \(File too large\): free space there") as told:
                one.save(tmp_path / "run", overwrite=True)
            with pytest.raises(OSError, match=r"fit cannot be written \(File too large\): free space there"):
                adapter().fit(noise(), checkpoint_dir=tmp_path / "fit")
        assert "adapts-" not in str(told.value) and isinstance(told.value.__cause__, OSError)
        assert found(tmp_path) == {**before, "fit": found(tmp_path)["fit"]}

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_without_rights_is_told(self, one, tmp_path):
        tmp_path.chmod(0o500)
        with pytest.raises(OSError, match=r"run cannot be written \(Permission denied\): choose a place where you may"):
            one.save(tmp_path / "run")
        tmp_path.chmod(0o700)
