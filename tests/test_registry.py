r"""Recipes and cards are found and checked; a wrong name is answered with the nearest."""

from pathlib import Path

import pytest

from adapts import Adapter, registry


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    r"""Puts one recipe of the given text on an otherwise empty shelf, as the wheel lays it out, and reads it."""

    def read(text: str) -> dict:
        folder = tmp_path / "_shelf" / "adapters"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mine.yaml").write_text(text)
        monkeypatch.setattr(registry, "__file__", str(tmp_path / "registry.py"))
        return registry.load_recipe("mine")

    return read


CARD = """
name: pond
source: a pond
licence: MIT
file: pond.csv
sha256: [%s]
reader: csv
timestamp_column: date
frequency: h
channels: [depth]
borders: {train: 60, validation: 80, test: 100}
season_length: 24
support: {depth: [0, .inf]}
""" % ("a" * 64)


def test_the_checkouts_shelf_is_taken_where_the_wheel_brings_none(tmp_path, monkeypatch) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "pond.yaml").write_text(CARD)
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "adapts" / "registry.py"))
    assert list(registry.cards()) == ["pond"]
    assert registry.load_card("pond")["borders"] == {"train": 60, "validation": 80, "test": 100}

    shipped = tmp_path / "adapts" / "_shelf" / "datasets"
    shipped.mkdir(parents=True)
    (shipped / "lake.yaml").write_text(CARD)
    assert list(registry.cards()) == ["lake"]


@pytest.mark.parametrize(
    ("line", "other", "message"),
    [
        ("name: pond", "", "the data card 'pond' lacks the key 'name'; it needs name, source"),
        ("file: pond.csv", "file: ../pond.csv", "the key 'file', which should be a path within a folder"),
        ("file: pond.csv", "file: /etc/passwd", "the key 'file', which should be a path within a folder"),
        ("reader: csv", "reader: exe", "the key 'reader', which should be 'csv' or 'tmy3', got 'exe'"),
        ("train: 60", "train: 1.5", r"the key 'borders.train', which should be a valid integer, got 1.5 \(float\)"),
        ("train: 60", "trian: 60", "lacks the key 'borders.train'; it needs train, validation, test"),
        ("frequency: h", "frequenc: h", r"lacks the key 'frequency'|no key .* 'frequenc'"),
        (
            "season_length: 24",
            "season_length: 0",
            "the key 'season_length', which should be greater than or equal to 1",
        ),
    ],
)
def test_a_card_that_is_not_one(tmp_path, monkeypatch, line: str, other: str, message: str) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "pond.yaml").write_text(CARD.replace(line, other))
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "adapts" / "registry.py"))
    with pytest.raises(ValueError, match=message):
        registry.load_card("pond")


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 20_000, "is not valid YAML .*nested too deeply"),
        (f"{BOMB}family: linear\nwhen: *i", "has more than 20000 entries"),
        ("family: linear\noptions: " + "{a: " * 30 + "1" + "}" * 30, "is nested more than 16 levels deep"),
        ("family: linear\noptions: {latent_channels: " + "1" * 5000 + "}", "is not valid YAML .*Exceeds the limit"),
        ("family: " + "x" * 200_000, "has 200008 bytes, expected at most 131072"),
        ("family: &a {b: *a}", "is nested more than 16 levels deep|which should be text"),
    ],
)
def test_a_recipe_that_is_a_bomb_gets_one_short_error(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        registry.load_recipe(path)
    assert len(str(error.value)) < 1000


def test_what_a_recipe_leaves_out_is_empty(recipe) -> None:
    read = recipe("family: linear\nwhen: Always.\noptions: {latent_channels: 3}")
    assert read == {
        "family": "linear",
        "when": "Always.",
        "options": {"latent_channels": 3},
        "training": {},
        "paper": {},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("family: linear", "the preset 'mine' lacks the key 'when'; it needs family, when"),
        ("family: linear\nwhen: x\noption: {}", r"no key of the preset 'mine' is called 'option'; .*mean 'options'\?"),
        (
            "family: linear\nwhen: x\noptions: 3",
            r"the key 'options', which should be a valid dictionary, got 3 \(int\)",
        ),
        (
            "family: linear\nwhen: x\npaper: {title: t, year: 2025}",
            "the preset 'mine' lacks the key 'paper.url'; it needs title, year, url",
        ),
        ("- family", "must be a mapping of keys to values, got list"),
        ("family: [", "the adapter 'mine' .* is not valid YAML"),
    ],
)
def test_a_recipe_that_is_not_one(recipe, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipe(text)


def test_an_unknown_name_lists_the_known_and_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no adapter is called 'liner'; known: .*linear.*\(did you mean 'linear'\?\)"):
        registry.load_recipe("liner")
    with pytest.raises(ValueError, match=r"no data card is called 'ETTh'; known: .*\(did you mean 'etth1'\?\)"):
        registry.load_card("ETTh")
    assert str(registry.unknown("adapter", "x", [])) == "no adapter is called 'x'; known: none"


def test_a_recipe_file_of_ones_own_needs_its_family_alone(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("family: linear\noptions: {latent_channels: 2}\ntraining: {objective: mae}")
    read = registry.load_recipe(path)
    assert read["family"] == "linear" and read["options"] == {"latent_channels": 2} and read["when"] == ""
    assert read["training"] == {"objective": "mae"}


def test_a_recipe_of_ones_own_may_name_a_recipe_as_its_family(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("family: pca\noptions: {latent_channels: 2}")
    read = registry.load_recipe(path)
    assert read["family"] == "projection" and read["options"] == {"method": "pca", "latent_channels": 2}
    path.write_text("family: pca\noptions: {method: svd}")
    assert registry.load_recipe(path)["options"] == {"method": "svd"}
    path.write_text("family: ensemble")
    assert registry.load_recipe(path)["options"] == {}  # the family's own, as ever


def test_training_that_a_recipe_says_and_nothing_does_is_refused(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    for line in ("objective: mse", "learning_rate: 0.1", "horizon_weights: 0.9"):
        path.write_text(f"family: residual\ntraining: {{{line}}}")
        with pytest.raises(ValueError, match=r"the preset '.*mine.yaml' sets .*, which is for .* nothing trains Resid"):
            Adapter(path, prediction_length=3)
    path.write_text("family: linear\ntraining: {objective: mse}")
    assert Adapter(path, prediction_length=3).objective is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no file .*mine.yaml"),
        ("when: Always.", "mine.yaml' lacks the key 'family'; it needs family"),
        (
            "family: linear\ntraining: {objectiv: mae}",
            r"no key of .* 'objectiv'; known: .* \(did you mean 'objective'\?\)",
        ),
        ("family: linear\ntraining: {objective: 3}", r"the key 'training.objective', which should be text, got 3"),
        ("family: linear\noptions: {3: 4}", "the key 'options.3.* should be text, got 3"),
        ("a,b\n1,2", "must be a mapping of keys to values, got str"),
        ("\x00", "is not valid YAML"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path, text: str | None, message: str) -> None:
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message):
        registry.load_recipe(path)
    with pytest.raises(ValueError, match="is a folder, expected a YAML file"):
        registry.load_recipe(tmp_path)
