r"""Configs of other packages' models, validated by what the packages declare."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn

from adapts.foundation.backends import missing_packages
from adapts.foundation.packages import built, is_live, schema_of
from adapts.foundation.weights import fill
from adapts.registry import BackendEntry


@dataclasses.dataclass
class Layer:
    width: int
    activation: Literal["relu", "none"] = "relu"


@dataclasses.dataclass
class Config:
    d_model: int
    levels: list[float]
    num_layers: int = 2
    eps: float | None = None
    causal: bool = True
    layer: Layer | dict[str, Any] | None = None
    blocks: dict[str, Layer] = dataclasses.field(default_factory=dict)
    module: nn.Module | None = None


WHOLE = {"d_model": 8, "levels": [0.1, 0.5], "layer": {"width": 4}, "blocks": {"a": {"width": 2, "activation": "none"}}}


def test_schema_takes_what_the_class_declares() -> None:
    schema = schema_of(Config)
    given = schema.model_validate(WHOLE | {"unknown": 1, "module": "os"})
    assert given.model_dump(exclude_unset=True) == WHOLE
    assert given.num_layers == 2  # the class's default, where it is a number or text


@pytest.mark.parametrize(
    "change",
    [{"d_model": 2**21}, {"d_model": -2}, {"d_model": "8"}, {"d_model": 8.5}, {"num_layers": 513}, {"eps": -1.0},
     {"eps": float("nan")}, {"levels": []}, {"levels": [0.1] * 1001}, {"levels": 0.5}, {"causal": 1},
     {"layer": {"width": 4, "activation": "exec"}}, {"layer": {}}, {"blocks": {"a": {"width": "x"}}}],
)  # fmt: skip
def test_schema_refuses_other_types_and_sizes(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        schema_of(Config).model_validate(WHOLE | change)


def test_schema_takes_narrower_types_and_leaves_arguments_out() -> None:
    schema = schema_of(Config, d_model=Literal[8], causal=None)
    assert "causal" not in schema.model_validate(WHOLE | {"causal": False}).model_dump()
    with pytest.raises(ValidationError):
        schema.model_validate(WHOLE | {"d_model": 16})


def test_a_config_of_a_larger_model_than_the_weights_allocates_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"d_model": 1048576, "levels": [0.5]}')
    save_file({"weight": torch.zeros(2)}, tmp_path / "model.safetensors")

    def build(options: dict[str, Any]) -> nn.Module:
        raise AssertionError("built")

    with pytest.raises(ValueError, match="describes at least 1099511627776 weights, got 2"):
        built(tmp_path, schema_of(Config), build, lambda config: config.d_model**2)


def test_shared_weights_are_filled_by_any_of_their_names(tmp_path: Path) -> None:
    def shared() -> nn.Module:
        model = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False)})
        model["b"] = model["a"]
        return model

    for name in ("a.weight", "b.weight"):
        save_file({name: torch.eye(2)}, tmp_path / "model.safetensors")
        model = shared()
        fill(model, tmp_path, exact=True)
        assert torch.equal(model["a"].weight, torch.eye(2))
    save_file({}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="2 missing or of another shape, the first a.weight"):
        fill(shared(), tmp_path)


def test_live_objects_are_told_without_an_import() -> None:
    assert is_live(nn.Linear(1, 1), "torch.nn", "Linear")
    assert not is_live(nn.Linear(1, 1), "torch.nn", "Conv1d")
    assert not is_live(nn.Linear(1, 1), "no_such_package", "Linear")


def test_a_folder_named_like_a_package_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checkpoint_folder").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    entry = BackendEntry("adapts.foundation.chronos", {"key": None}, ("checkpoint_folder", "torch"), "toto")
    assert missing_packages(entry) == ["checkpoint_folder"]
