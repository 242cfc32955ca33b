r"""Checkpoint folders: validated before transformers reads them."""

from __future__ import annotations

__all__ = [
    "BoltConfig",
    "Checkpoint",
    "PatchTSTConfig",
    "checked",
    "identity",
    "pretrained",
    "read_config",
    "require_sound",
    "require_weights",
]

import math
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from .._logging import quiet
from .._random import seeded
from ..errors import reading, shown, unknown
from ..persistence.schemas import ModelCard, Strict, read_json, require_regular, validated

CONFIG, CARD, WEIGHTS = "config.json", "card.json", "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
#: The attention implementation of transformers; results of all checkpoints depend on it.
ATTENTION = "sdpa"
#: Config keys that make transformers load code, weights or methods from outside of the folder's safetensors files.
REFUSED = ("auto_map", "quantization_config", "attn_implementation", "_attn_implementation")
REFUSED_FILES = ("adapter_config.json",)
#: The maximum size in bytes of a config, card or index; of an untrained head; and of weights beyond those in the files.
LARGEST, MOST_HEAD, SMALL = 2**24, 2**28, 2**22
REMEDY = "save the model again with save_pretrained(folder)"

Size = Annotated[int, Field(ge=1, le=2**16)]
Layers = Annotated[int, Field(ge=1, le=512)]
Steps = Annotated[int, Field(ge=1, le=2**20)]
Level = Annotated[float, Field(gt=0, lt=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Small = Annotated[float, Field(gt=0, lt=1)]
_Config = TypeVar("_Config", bound="Checkpoint")


class Checkpoint(BaseModel):
    r"""Config of a checkpoint; fields that are not declared are not passed to transformers."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    def numbers(self) -> int:
        r"""Return a lower bound of the number of weights."""
        raise NotImplementedError


class BoltSettings(Strict):
    r"""Chronos settings within a T5 config."""

    context_length: Steps
    prediction_length: Size
    input_patch_size: Size
    input_patch_stride: Size
    quantiles: Annotated[list[Level], Field(min_length=1, max_length=1000)]
    use_reg_token: bool = False


class BoltConfig(Checkpoint):
    r"""Config of a Chronos-Bolt checkpoint."""

    chronos_config: BoltSettings
    chronos_pipeline_class: Literal["ChronosBoltPipeline"]
    d_model: Size = 512
    d_kv: Size = 64
    d_ff: Size = 2048
    num_layers: Layers = 6
    num_decoder_layers: Layers | None = None
    num_heads: Size = 8
    relative_attention_num_buckets: Annotated[int, Field(ge=4, le=2**16)] = 32
    relative_attention_max_distance: Steps = 128
    dropout_rate: Rate = 0.1
    layer_norm_epsilon: Small = 1e-6
    initializer_factor: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    feed_forward_proj: Literal["relu", "gelu", "gelu_new", "silu", "gated-gelu", "gated-relu", "gated-silu"] = "relu"
    decoder_start_token_id: Literal[0] = 0

    def numbers(self) -> int:
        inner, settings = self.num_heads * self.d_kv, self.chronos_config
        layers = self.num_layers + 2 * (self.num_decoder_layers or self.num_layers)
        blocks = 4 * layers * self.d_model * inner + 2 * self.num_layers * self.d_model * self.d_ff
        ends = 2 * settings.input_patch_size + len(settings.quantiles) * settings.prediction_length
        return blocks + ends * (self.d_ff + self.d_model)


class PatchTSTConfig(Checkpoint):
    r"""Config of a PatchTST checkpoint, backbone only."""

    context_length: Steps = 32
    prediction_length: Size = 24
    num_input_channels: Size = 1
    patch_length: Size = 1
    patch_stride: Size = 1
    num_hidden_layers: Layers = 3
    d_model: Size = 128
    num_attention_heads: Size = 4
    share_embedding: bool = True
    channel_attention: bool = False
    ffn_dim: Size = 512
    norm_type: Literal["batchnorm", "layernorm"] = "batchnorm"
    norm_eps: Small = 1e-5
    attention_dropout: Rate = 0.0
    positional_dropout: Rate = 0.0
    path_dropout: Rate = 0.0
    ff_dropout: Rate = 0.0
    bias: bool = True
    activation_function: Literal["gelu", "relu"] = "gelu"
    pre_norm: bool = True
    positional_encoding_type: Literal["random", "sincos"] = "sincos"
    use_cls_token: bool = False
    scaling: Literal["mean", "std"] | bool | None = "std"

    @model_validator(mode="after")
    def _agrees(self) -> PatchTSTConfig:
        if self.d_model % self.num_attention_heads:
            raise ValueError("should have a d_model divisible by num_attention_heads")
        if self.context_length <= self.patch_length:
            raise ValueError("should have a context_length larger than patch_length")
        patches = (self.context_length - self.patch_length) // self.patch_stride + 1
        if patches * self.d_model * self.prediction_length > MOST_HEAD:
            raise ValueError(f"should need a head of at most {MOST_HEAD} weights per level")
        return self

    def numbers(self) -> int:
        return self.num_hidden_layers * self.d_model * (4 * self.d_model + 2 * self.ffn_dim)


def read_config(folder: Path) -> dict[str, Any]:
    r"""Read the config of a checkpoint, and reject one that requires anything but the folder's own weights.

    Arguments:
        folder: The folder.

    Returns:
        The content of the config.

    Raises:
        ValueError: If the folder holds no checkpoint, or its config is not JSON or requires code or other files.
    """
    if not (folder / CONFIG).is_file() or not ((folder / WEIGHTS).is_file() or (folder / INDEX).is_file()):
        raise ValueError(
            f"'{folder}' is no checkpoint: expected config.json and model.safetensors in it "
            f"(save_pretrained(folder) of a model writes them)"
        )
    for name in REFUSED_FILES:
        if (folder / name).exists():
            raise ValueError(
                f"the checkpoint in '{folder}' has {name}, which names another model: {REMEDY} of the whole"
            )
    content = read_json(folder / CONFIG, f"'{folder / CONFIG}'", REMEDY, most=LARGEST)
    if not isinstance(content, dict):
        raise ValueError(
            f"'{folder / CONFIG}' must be a mapping of keys to values, got {type(content).__name__}: {REMEDY}"
        )
    for name in REFUSED:
        if content.get(name) is not None:
            raise ValueError(
                f"'{folder / CONFIG}' has the key {name!r}, which refers to content outside of the folder: {REMEDY}"
            )
    return content


def checked(schema: type[_Config], content: dict[str, Any], folder: Path) -> dict[str, Any]:
    r"""Validate the config of a checkpoint against its schema, and its size against the weight files.

    Arguments:
        schema: The schema.
        content: The content of the config.
        folder: The folder.

    Returns:
        The options in the config that the schema declares.

    Raises:
        ValueError: If it does not match the schema, or describes a larger model than the weights.
    """
    config = validated(schema, content, f"'{folder / CONFIG}'", REMEDY, unknown=unknown)
    weight_count = require_weights(folder)
    if config.numbers() > SMALL + 4 * weight_count:
        raise ValueError(
            f"the weights in '{folder}' do not fit its config.json: it describes at least {config.numbers()} "
            f"weights, got {weight_count}: {REMEDY}"
        )
    return config.model_dump(exclude_unset=True)


def pretrained(
    model: Any, config: Any, options: dict[str, Any], folder: Path, *, attention: str | None = ATTENTION
) -> Any:
    r"""Load a model of transformers with the weights in a folder.

    Arguments:
        model: The class of the model.
        config: The class of its config.
        options: The options of the config, as `checked` returns them.
        folder: The folder.
        attention: The implementation of attention, as transformers names it; "eager" for models with their own, None
            for classes that know no such option.

    Returns:
        The model, in float32.

    Raises:
        ValueError: If the options or weights do not fit each other, or a weight is missing or not finite.
    """
    named_attention = {} if attention is None else {"attn_implementation": attention}
    with reading(f"the checkpoint in '{folder}' cannot be read", REMEDY), quiet(), seeded(0):
        loaded, info = model.from_pretrained(
            folder, config=config(**options), dtype=torch.float32, use_safetensors=True, local_files_only=True,
            output_loading_info=True, ignore_mismatched_sizes=True, **named_attention,
        )  # fmt: skip  # mismatches are reported below, by name
    require_sound(loaded, info, folder)
    return loaded


def require_weights(folder: Path) -> int:
    r"""Check that the weights are safetensors files in the folder.

    Arguments:
        folder: The folder.

    Returns:
        The number of weights.

    Raises:
        ValueError: If a file is missing, damaged or outside of the folder.
    """
    from safetensors import safe_open

    names = [WEIGHTS]
    if not (folder / WEIGHTS).is_file():
        content = read_json(folder / INDEX, f"'{folder / INDEX}'", REMEDY, most=LARGEST)
        places = content.get("weight_map") if isinstance(content, dict) else None
        if not isinstance(places, dict) or not places:
            raise ValueError(f"'{folder / INDEX}' has no mapping 'weight_map' of weights to files: {REMEDY}")
        for name in places.values():
            if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
                raise ValueError(
                    f"'{folder / INDEX}' names {shown(name)}, which is no safetensors file in its folder: {REMEDY}"
                )
        names = sorted(set(places.values()))
    total = 0
    for name in names:
        require_regular(folder / name, f"'{folder / name}'")
        with reading(f"the checkpoint in '{folder}' cannot be read", REMEDY), safe_open(folder / name, "pt") as file:
            total += sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118  no mapping
    return total


def identity(folder: Path, name: str | None, version: str | None) -> dict[str, Any]:
    r"""Return name and version of a checkpoint as keyword arguments of its model.

    Arguments:
        folder: The folder.
        name: The name; if None, that of the checkpoint's card, or else the folder's.
        version: The version; if None, that of the card, or else "unknown".

    Raises:
        ValueError: If the card is invalid.
    """
    card, what = ModelCard(), f"'{folder / CARD}'"
    if (folder / CARD).exists():
        content = read_json(folder / CARD, what, REMEDY, most=LARGEST)
        card = validated(ModelCard, content, what, "give it a name and a version, both text", unknown=unknown)
    return {"name": name or card.name or folder.resolve().name, "version": version or card.version or "unknown"}


def require_sound(model: nn.Module, info: Any, folder: Path) -> None:
    r"""Check weights after loading.

    Arguments:
        model: The model.
        info: The loading report of transformers.
        folder: The folder.

    Raises:
        ValueError: If a weight is missing, not finite, or its shape differs from the config's.
    """
    mismatched = [key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]]
    if faults := sorted([*info["missing_keys"], *mismatched]):
        raise ValueError(
            f"the weights in '{folder}' do not fit its config.json: {len(faults)} missing or of another shape, the "
            f"first {shown(faults[0])[1:-1]}"
        )
    for name, weight in model.state_dict().items():
        if weight.is_floating_point() and not bool(torch.isfinite(weight).all()):
            raise ValueError(f"the weights in '{folder}' are not finite, the first {name}: {REMEDY}")
