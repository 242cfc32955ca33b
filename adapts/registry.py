r"""Registries: families, presets, data cards, copulas, scores, backends of foundation models, file formats."""

from __future__ import annotations

__all__ = [
    "COPULAS",
    "ENVIRONMENTS",
    "FAMILIES",
    "FILE_FORMATS",
    "FOUNDATION_MODELS",
    "SCORES",
    "BackendEntry",
    "CopulaEntry",
    "ScoreEntry",
    "cards",
    "load_card",
    "load_recipe",
    "recipes",
    "resolve",
]

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from .errors import reading, shown, unknown


@dataclass(frozen=True)
class CopulaEntry:
    r"""Copula for `Adapter(copula=...)`.

    Arguments:
        fit: The function that fits it to an `adapts.copulas.fits.Past`, as "module:function".
        of_errors: Whether it needs past errors; otherwise it uses only the train rows.
    """

    fit: str
    of_errors: bool = True


@dataclass(frozen=True)
class ScoreEntry:
    r"""Score of a backtest.

    Arguments:
        compute: The function that computes it from an `adapts.evaluation.window_scores.Scored`, as
            "module:function".
        of_windows: Whether it scores whole windows, with shape :math:`(n,)`, or cells, with shape :math:`(n, H, D)`.
        power: The power of a channel's scale that divides the score of a cell.
        weight: The function that computes the weights of cells, as `compute`; if None, observed cells weigh alike. The
            score of several cells is the sum of `compute` over the sum of weights: a ratio of sums.
    """

    compute: str
    of_windows: bool = False
    power: int = 0
    weight: str | None = None


@dataclass(frozen=True)
class BackendEntry:
    r"""Backend of foundation models: the file that loads one architecture.

    Arguments:
        module: The module, with `from_directory(path, *, name=None, version=None)`, which loads a checkpoint, and
            `from_live(model)`, which wraps a model in memory and returns None for one of another type. Importing the
            module imports no package of `requires`, and neither does `from_live`.
        config: What identifies the `config.json` of its checkpoints: the value of each key, or a tuple of values. With
            None as value, the key only has to be present. The entry with the most keys is used if several match.
        requires: The import names of the packages that it needs beyond those that adapts installs.
        extra: The extra of adapts that installs them, if there is one.
        environment: The commands that install them into an environment of its own, one a line, if what they require
            conflicts with what adapts requires.
    """

    module: str
    config: Mapping[str, str | tuple[str, ...] | None]
    requires: tuple[str, ...] = ()
    extra: str | None = None
    environment: str | None = None


#: Packages whose pins conflict with ours, by environment: installed without what they require, which adapts has.
ENVIRONMENTS = {
    "granite": "granite-tsfm==0.3.11 datasets==5.2.0 deprecated==1.3.1 wrapt==2.5.2 dill==0.4.1 multiprocess==0.70.19 "
    "xxhash==4.1.0",
    "moirai": "uni2ts==2.0.0 jaxtyping==0.3.11 wadler-lindig==0.1.8",
    "moirai-1": "uni2ts==2.0.0 jaxtyping==0.3.11 wadler-lindig==0.1.8 hydra-core==1.3.8 omegaconf==2.4.0 "
    "antlr4-python3-runtime==4.9.3 python-dotenv==1.2.4 jax==0.10.2 jaxlib==0.10.2 ml_dtypes==0.7.0",
    "moment": "momentfm==0.1.4",
    "tirex": "tirex-ts==1.4.2",
    "tirex-2": "tirex-2==0.4.0 flashrnn==1.0.8 mlstm-kernels==2.0.6",  # without Triton, which a CPU does not need
}


def _alone(environment: str) -> str:
    r"""Return the commands that install the packages of an environment of its own."""
    return f"pip install adapts\npip install --no-deps {ENVIRONMENTS[environment]}"


# One line registers a new one; `resolve` imports its file when it is first used.

#: Families of adapters: the class of each, as "module:class", by the name that `adapts.adapters.register` gives it.
FAMILIES = {
    "attention": "adapts.adapters.attention:CrossChannelAttention",
    "auto": "adapts.adapters.portfolio:Portfolio",
    "autoencoder": "adapts.adapters.autoencoder:Autoencoder",
    "bayesian": "adapts.adapters.bayesian:Bayesian",
    "context": "adapts.adapters.context_linear:ContextLinear",
    "dropout": "adapts.adapters.dropout:Dropout",
    "ensemble": "adapts.adapters.ensemble:Ensemble",
    "flow": "adapts.adapters.flow:Flow",
    "identity": "adapts.adapters.identity:Identity",
    "linear": "adapts.adapters.linear:Linear",
    "projection": "adapts.adapters.projection:Projection",
    "residual": "adapts.adapters.residual:Residual",
    "vae": "adapts.adapters.vae:VAE",
    "var": "adapts.adapters.vector_autoregression:VectorAutoregression",
    "weave": "adapts.adapters.weave:Weave",
}
#: Copulas, apart from "residual", which selects among several.
COPULAS = {
    "gaussian-history": CopulaEntry("adapts.copulas.fits:gaussian_history", of_errors=False),
    "schaake": CopulaEntry("adapts.copulas.fits:schaake", of_errors=False),
    "empirical": CopulaEntry("adapts.copulas.fits:empirical"),
    "independent": CopulaEntry("adapts.copulas.fits:independent"),
}
#: Scores, in the order of tables.
SCORES = {
    "mse": ScoreEntry("adapts.evaluation.window_scores:mse", power=2),
    "mae": ScoreEntry("adapts.evaluation.window_scores:mae", power=1),
    "crps": ScoreEntry("adapts.evaluation.window_scores:crps", power=1),
    "wql": ScoreEntry("adapts.evaluation.window_scores:wql", power=1),
    "coverage_80": ScoreEntry("adapts.evaluation.window_scores:coverage_80"),
    "width_80": ScoreEntry("adapts.evaluation.window_scores:width_80", power=1),
    "interval_score_80": ScoreEntry("adapts.evaluation.window_scores:interval_score_80", power=1),
    "mase": ScoreEntry("adapts.evaluation.window_scores:mase"),
    "wape": ScoreEntry("adapts.evaluation.window_scores:mae", weight="adapts.evaluation.window_scores:magnitude"),
    "energy_score": ScoreEntry("adapts.evaluation.window_scores:energy_score", of_windows=True),
    "variogram_channels": ScoreEntry("adapts.evaluation.window_scores:variogram_channels", of_windows=True),
    "variogram_time": ScoreEntry("adapts.evaluation.window_scores:variogram_time", of_windows=True),
    "crps_sum": ScoreEntry("adapts.evaluation.window_scores:crps_sum", of_windows=True),
}
#: Backends of foundation models, by name.
FOUNDATION_MODELS = {
    "chronos-bolt": BackendEntry(
        "adapts.foundation.chronos", {"chronos_config": None, "chronos_pipeline_class": "ChronosBoltPipeline"}
    ),
    "chronos-2": BackendEntry(
        "adapts.foundation.chronos2", {"chronos_config": None, "chronos_pipeline_class": "Chronos2Pipeline"}
    ),
    "chronos-t5": BackendEntry("adapts.foundation.chronos_t5", {"chronos_config": None}),
    "fracast": BackendEntry(
        "adapts.foundation.fracast", {"model": None, "pyramid": None}, requires=("fracast",), extra="fracast"
    ),
    "patchtst": BackendEntry("adapts.foundation.patchtst", {"model_type": "patchtst"}),
    "patchtsmixer": BackendEntry("adapts.foundation.patchtsmixer", {"model_type": "patchtsmixer"}),
    "timesfm": BackendEntry("adapts.foundation.timesfm", {"model_type": ("timesfm2_5", "timesfm")}),
    "toto-2": BackendEntry(
        "adapts.foundation.toto2", {"num_variate_layers_per_group": None, "d_model": None}, ("toto2",), "toto"
    ),
    "t0": BackendEntry("adapts.foundation.t0", {"group_every_n": None, "embed_dim": None}, ("t0",), "t0"),
    "timesfm-3": BackendEntry(
        "adapts.foundation.timesfm3", {"transformer_config": None, "input_patch_len": None}, ("timesfm3",), "timesfm3"
    ),
    "yug": BackendEntry("adapts.foundation.yug", {"model_type": "yug"}, ("yug",), "yug"),
    "nanoforecast": BackendEntry(
        "adapts.foundation.nanoforecast",
        {"use_gated_router": None, "patch_size": None},
        ("nanoforecast",),
        "nanoforecast",
    ),
    "tirex-2": BackendEntry(
        "adapts.foundation.tirex2",
        {"stack_config": None, "future_len": None},
        ("tirex2", "mlstm_kernels"),
        environment=_alone("tirex-2"),
    ),
    "ttm": BackendEntry(
        "adapts.foundation.ttm", {"model_type": "tinytimemixer"}, ("tsfm_public",), environment=_alone("granite")
    ),
    "patchtst-fm": BackendEntry(
        "adapts.foundation.patchtst_fm", {"model_type": "patchtst_fm"}, ("tsfm_public",), environment=_alone("granite")
    ),
    "flowstate": BackendEntry(
        "adapts.foundation.flowstate", {"model_type": "flowstate"}, ("tsfm_public",), environment=_alone("granite")
    ),
    "moirai-1": BackendEntry(
        "adapts.foundation.moirai1",
        {"distr_output": None, "patch_sizes": None},
        ("uni2ts", "jaxtyping", "hydra", "jax"),
        environment=_alone("moirai-1"),
    ),
    "moirai-2": BackendEntry(
        "adapts.foundation.moirai2",
        {"num_predict_token": None, "max_seq_len": None},
        ("uni2ts", "jaxtyping"),
        environment=_alone("moirai"),
    ),
    "moment": BackendEntry(
        "adapts.foundation.moment", {"model_name": "MOMENT"}, ("momentfm",), environment=_alone("moment")
    ),
    "tirex": BackendEntry("adapts.foundation.tirex", {"model_type": "tirex"}, ("tirex",), environment=_alone("tirex")),
    "statsforecast": BackendEntry(
        "adapts.foundation.statsforecast", {"model_type": "statsforecast"}, ("statsforecast",), extra="statsforecast"
    ),
    "gluonts": BackendEntry("adapts.foundation.gluonts_predictor", {"model_type": "gluonts"}),
}
#: File formats: the reader of a file into an `adapts.data.from_files.Table`, by suffix, as "module:function".
FILE_FORMATS = {
    ".csv": "adapts.data.from_files:read_csv",
    ".tsv": "adapts.data.from_files:read_csv",
    ".parquet": "adapts.data.from_files:read_parquet",
    ".pq": "adapts.data.from_files:read_parquet",
    ".arrow": "adapts.data.from_files:read_arrow",
    ".feather": "adapts.data.from_files:read_arrow",
    ".jsonl": "adapts.data.from_files:read_json",
    ".json": "adapts.data.from_files:read_json",
    ".tsf": "adapts.data.from_files:read_tsf_file",
}
#: The maximum size of a preset or card in bytes.
LARGEST = 2**17


def resolve(entry: str) -> Any:
    r"""Import the object that an entry of a registry names.

    Arguments:
        entry: A module and a name within it, as "module:name".

    Returns:
        The object.

    Example:
        >>> resolve("adapts.registry:cards") is cards
        True
    """
    module, _, name = entry.partition(":")
    return getattr(import_module(module), name)


def recipes() -> dict[str, Path]:
    r"""Return the files of the presets in `adapters/`, by name.

    Example:
        >>> "linear" in adapts.registry.recipes()
        True
    """
    return _find("adapters")


def cards() -> dict[str, Path]:
    r"""Return the files of the data cards in `datasets/`, by name.

    Example:
        >>> "greensboro" in adapts.registry.cards()
        True
    """
    return _find("datasets")


def load_recipe(name: str | Path) -> dict[str, Any]:
    r"""Read and validate a preset of an adapter family.

    Arguments:
        name: The preset's name, its file name without the suffix; or, as a Path, a preset file of your own, which
            needs no `when`. Its family may be the name of another preset; the options and training of the file then
            override those of that preset.

    Returns:
        The keys `family` (a registered name), `when` (when to use it), `options` (fields of the family's class),
        `training` (objective) and `paper` (title, year, url). All but the family are empty if the preset omits them.

    Raises:
        ValueError: If there is no such preset, or it is invalid.
    """
    from .persistence.schemas import Recipe, ShelfRecipe, validated

    where = f"the preset {shown(str(name))}"
    if isinstance(name, Path):
        schema: type[Recipe] = Recipe
        content = _read(where, name)
    else:
        schema, content = ShelfRecipe, _load("adapter", name, recipes())
    validated_preset = validated(schema, content, where, "follow the presets in the registry", unknown=unknown)
    recipe = {"when": "", "options": {}, "training": {}, "paper": {}, **validated_preset.model_dump(exclude_unset=True)}
    base = recipe["family"]
    if base != name and base in recipes() and (parent := load_recipe(base))["family"] != base:
        merged = {key: {**parent[key], **recipe[key]} for key in ("options", "training")}
        recipe = {**recipe, **merged, "family": parent["family"]}
    return recipe


def load_card(name: str) -> dict[str, Any]:
    r"""Read and validate a data card; `adapts.data.cards` interprets its keys.

    Arguments:
        name: The card's name, its file name without the suffix.

    Returns:
        The card's keys and values.

    Raises:
        ValueError: If there is no such card, or it is invalid.
    """
    from .persistence.schemas import DataCard, validated

    where = f"the data card {shown(name)}"
    content = _load("data card", name, cards())
    return validated(DataCard, content, where, "follow the other cards", unknown=unknown).model_dump(exclude_unset=True)


def _find(folder_name: str) -> dict[str, Path]:
    r"""Return the files of a registry folder by name, from the wheel if possible, otherwise from the checkout."""
    package = Path(__file__).parent
    shipped = package / "_shelf" / folder_name
    folder = shipped if shipped.is_dir() else package.parent / folder_name
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _load(kind: str, name: str, known: dict[str, Path]) -> dict[str, Any]:
    if not isinstance(name, str) or name not in known:
        raise unknown(kind, name, known)
    return _read(f"the {kind} {name!r} ({known[name]})", known[name])


def _read(where: str, path: Path) -> dict[str, Any]:
    import yaml

    from .persistence.schemas import plain, read_text

    with reading(f"{where} cannot be opened", "rename the file"):
        is_file, is_folder = path.is_file(), path.is_dir()
    if not is_file:
        raise ValueError(f"{where} is a folder, expected a YAML file" if is_folder else f"there is no file {path}")
    text = read_text(path, where, LARGEST)
    with reading(f"{where} is not valid YAML", "write keys and values as in the presets and cards of the registry"):
        content = yaml.safe_load(text)
    if not isinstance(content, dict):
        raise ValueError(f"{where} must be a mapping of keys to values, got {type(content).__name__}")
    plain(content, where)
    return content
