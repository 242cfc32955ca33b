r"""Known weights by name, and how models are loaded: revisions, half precision, compilation, absent packages."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_files import run
from torch.testing import assert_close

from adapts import Adapter, load_foundation_model
from adapts.foundation import KNOWN, REPOSITORY
from adapts.foundation.backends import install_command, missing_packages
from adapts.foundation.gradient import gradient_error
from adapts.foundation.names import WEIGHTS, Weights, licence_words, size_words
from adapts.registry import FOUNDATION_MODELS, BackendEntry
from adapts.testing import tiny_chronos_bolt
from benchmarks.foundation.backends import model_class, table

ROOT = Path(__file__).parents[1]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("name", WEIGHTS)
def test_an_entry_agrees_with_its_backend(name: str) -> None:
    weights = WEIGHTS[name]
    declared = model_class(weights.backend)
    source = ast.unparse(ast.parse(inspect.getsource(import_module(declared.__module__))))
    assert weights.differentiable != ("differentiable=False" in source)
    assert (weights.source == "hub") == (weights.hub is not None)
    assert weights.levels is None or (weights.levels == 1) == (declared.kind == "point")
    assert weights.production is None or weights.weights or weights.parameters == 0
    assert re.fullmatch(r"[a-z0-9.-]+", name)


def test_names_and_repositories_are_told_apart() -> None:
    hubs = [weights.hub for weights in WEIGHTS.values() if weights.hub is not None]
    assert len(set(hubs)) == len(hubs)
    assert all(REPOSITORY.fullmatch(hub) for hub in hubs)
    assert not any(REPOSITORY.fullmatch(name) for name in WEIGHTS)
    assert set(KNOWN) == {*WEIGHTS, *hubs}
    assert {weights.backend for weights in WEIGHTS.values()} <= set(FOUNDATION_MODELS)


def test_the_page_holds_the_table() -> None:
    assert table() in (ROOT / "docs" / "foundation_models.md").read_text()


def test_sizes_and_licences_in_words() -> None:
    assert [size_words(WEIGHTS[name]) for name in ("chronos-2", "fracast-0", "theta", "toto-2-2.5b", "t0-gamma")] == [
        "120 M parameters", "85 k parameters", "no weights", "2.5 B parameters", "size not stated",
    ]  # fmt: skip
    assert licence_words(WEIGHTS["timesfm-3"]).endswith("timesfm-non-commercial-license-v1.0: no production use")
    assert licence_words(WEIGHTS["chronos-2"]).endswith("weights Apache-2.0: production use allowed")
    assert licence_words(Weights("t0")) == "code Apache-2.0, weights' licence not stated: read the page on the hub"


def test_the_command_line_prints_what_installs_a_model() -> None:
    rows = {row["name"]: row for row in json.loads(run("list", "models", "--json").stdout)}
    assert list(rows) == list(WEIGHTS)
    for name, row in rows.items():
        backend = FOUNDATION_MODELS[WEIGHTS[name].backend]
        assert row["installed"] == (not missing_packages(backend))
        assert row["install"] == install_command(backend)
    lines = run("list", "models").stdout.splitlines()
    assert re.fullmatch(
        r"bolt-nano +backend chronos-bolt; 3.86 M parameters; .*production use allowed; installed", lines[0]
    )


# ---------------------------------------------------------------------- loading by name


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    r"""A cache of the hub that holds two commits of chronos-bolt-tiny, and no network."""
    from huggingface_hub import constants

    repository = tmp_path / "cache" / "models--amazon--chronos-bolt-tiny"
    (repository / "refs").mkdir(parents=True)
    for seed, (reference, commit) in enumerate({"main": COMMIT, "other": COMMIT[::-1]}.items()):
        (repository / "refs" / reference).write_text(commit)
        tiny_chronos_bolt(seed=seed).save_pretrained(repository / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return repository


def test_a_short_name_is_its_repository(cached: Path) -> None:
    model, whole = load_foundation_model("chronos-bolt-tiny"), load_foundation_model("amazon/chronos-bolt-tiny")
    assert (model.name, model.version) == ("chronos-bolt-tiny", COMMIT)
    assert (whole.name, whole.version) == ("amazon/chronos-bolt-tiny", COMMIT)
    assert model.fingerprint()["sha256"] == whole.fingerprint()["sha256"]
    other = load_foundation_model("chronos-bolt-tiny", revision="other")
    assert other.version == COMMIT[::-1]
    assert other.fingerprint()["sha256"] != model.fingerprint()["sha256"]
    with pytest.raises(ValueError, match="cannot load the foundation model 'amazon/chronos-bolt-tiny'"):
        load_foundation_model("chronos-bolt-tiny", revision="elsewhere")


def test_a_fit_by_short_name_loads_again(cached: Path, tmp_path: Path) -> None:
    series = np.random.default_rng(0).standard_normal((200, 2)).cumsum(0)
    adapter = Adapter("identity", foundation_model="chronos-bolt-tiny", prediction_length=4, context_length=16)
    adapter.fit(series).save(tmp_path / "saved")
    again = Adapter.load(tmp_path / "saved")
    np.testing.assert_array_equal(again.predict().samples, adapter.predict().samples)


def test_a_folder_of_that_name_is_told_apart_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_chronos_bolt().save_pretrained(tmp_path / "bolt-nano")
    assert load_foundation_model("bolt-nano").context_length == 504
    for folder in ("./bolt-nano", Path("bolt-nano")):
        assert load_foundation_model(folder).context_length == 64


def test_revisions_are_of_the_hub(tmp_path: Path) -> None:
    tiny_chronos_bolt().save_pretrained(tmp_path / "model")
    for model in ("bolt-nano", tmp_path / "model", tiny_chronos_bolt(), load_foundation_model("bolt-nano")):
        with pytest.raises(
            ValueError, match="revision is the commit, branch or tag of a repository on the hub, got 'v1'"
        ):
            load_foundation_model(model, revision="v1")
    with pytest.raises(ValueError, match="got 5 for 'amazon/chronos-bolt-tiny'"):
        load_foundation_model("amazon/chronos-bolt-tiny", revision=5)


# ---------------------------------------------------------------------- absent packages


@pytest.fixture
def absent() -> Iterator[None]:
    r"""Two backends whose packages do not exist."""
    added = {
        "by extra": BackendEntry("adapts.foundation.chronos", {"model_type": "a"}, ("no_such_package",), "flow"),
        "alone": BackendEntry("adapts.foundation.chronos", {"model_type": "b", "x": None}, ("no_such_package",),
                              environment="pip install adapts\npip install --no-deps something==1"),
    }  # fmt: skip
    FOUNDATION_MODELS.update(added)
    yield
    for name in added:
        del FOUNDATION_MODELS[name]


@pytest.mark.usefixtures("absent")
def test_an_absent_package_gives_the_command(tmp_path: Path) -> None:
    tiny_chronos_bolt().save_pretrained(tmp_path)
    for config, message in (
        (
            {"model_type": "a"},
            r"'by extra' needs no_such_package, .*: install the extra 'flow': pip install 'adapts\[flow\]'",
        ),
        (
            {"model_type": "b", "x": 1},
            r"(?s)'alone' needs .* In a new one, run\n    pip install adapts\n    pip .*something==1",
        ),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match=message):
            load_foundation_model(tmp_path)


@pytest.mark.usefixtures("absent")
def test_the_entry_with_the_most_keys_reads_a_checkpoint(tmp_path: Path) -> None:
    tiny_chronos_bolt().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "a"}))
    assert load_foundation_model(tmp_path).context_length == 64  # two keys of Chronos-Bolt against one


def test_names_whose_package_is_absent_download_nothing() -> None:
    for name, weights in WEIGHTS.items():
        if missing := missing_packages(FOUNDATION_MODELS[weights.backend]):
            with pytest.raises(ValueError, match=f"the backend '{weights.backend}' needs {', '.join(missing)}"):
                load_foundation_model(name)


# ---------------------------------------------------------------------- half precision and compilation


def test_half_precision_is_close_and_has_no_gradient() -> None:
    full, half = load_foundation_model("bolt-nano"), load_foundation_model("bolt-nano", dtype="bfloat16")
    context = torch.randn(4, 200, generator=torch.Generator().manual_seed(0)).cumsum(1)
    expected, forecast = full.predict(context, 96), half.predict(context, 96)
    assert forecast.dtype == torch.float32
    assert not torch.equal(forecast, expected)
    assert_close(forecast, expected, rtol=0, atol=0.05 * float(expected.std()))
    assert half.half_precision
    assert half.fingerprint()["sha256"] != full.fingerprint()["sha256"]
    kinds = {parameter.dtype for parameter in half.parameters()}
    assert kinds == {torch.bfloat16, torch.float32}
    size = sum(parameter.nbytes for parameter in half.parameters())
    assert size < 0.6 * sum(parameter.nbytes for parameter in full.parameters())
    assert gradient_error(half, context, 8) > gradient_error(full, context, 8)
    with pytest.raises(ValueError, match="no gradient with respect to its context"):
        half(context.requires_grad_(), 8)


def test_an_untrained_head_stays_in_single_precision(tmp_path: Path) -> None:
    from transformers import PatchTSTConfig, PatchTSTModel

    config = PatchTSTConfig(context_length=32, patch_length=8, patch_stride=8, d_model=8, num_hidden_layers=1,
                            num_attention_heads=2, ffn_dim=8, prediction_length=4)  # fmt: skip
    model = load_foundation_model(PatchTSTModel(config), dtype="bfloat16")
    head = model.untrained_head()
    assert head is not None
    assert {parameter.dtype for parameter in head.parameters()} == {torch.float32}
    series = np.random.default_rng(0).standard_normal((500, 2)).cumsum(0)
    adapter = Adapter("residual", foundation_model=model, prediction_length=4, context_length=32).fit(series)
    assert "epochs; validation loss" in adapter.summary().stages["probe"]
    adapter.save(tmp_path / "saved")
    again = Adapter.load(tmp_path / "saved", foundation_model=model)
    np.testing.assert_array_equal(again.predict().samples, adapter.predict().samples)


@pytest.mark.slow  # the compiler takes most of a minute
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_forecasts_alike() -> None:
    plain = load_foundation_model(tiny_chronos_bolt())
    compiled = load_foundation_model(tiny_chronos_bolt(), compile=True)
    context = torch.randn(1, 64)  # the shape of the trial forecast: no other is compiled
    assert_close(compiled(context, 8), plain(context, 8), rtol=1e-4, atol=1e-4)
    assert compiled.fingerprint() == plain.fingerprint()


def test_options_of_loading_are_checked() -> None:
    model = load_foundation_model("bolt-nano")
    with pytest.raises(ValueError, match="expected dtype to be 'float32' or 'bfloat16', got 'float16'"):
        load_foundation_model("bolt-nano", dtype="float16")
    with pytest.raises(ValueError, match="expected compile to be True or False, got 1"):
        load_foundation_model("bolt-nano", compile=1)
    for options in ({"dtype": "bfloat16"}, {"compile": True}):
        with pytest.raises(
            ValueError, match="dtype and compile are for models that are loaded here, got the loaded bolt"
        ):
            load_foundation_model(model, **options)
