r"""Known weights by short name: where they lie, which backend reads them, their size, licences and limits."""

from __future__ import annotations

__all__ = ["WEIGHTS", "Weights", "known_names", "licence_words", "size_words"]

from dataclasses import dataclass, replace
from typing import Literal

APACHE = "Apache-2.0"


@dataclass(frozen=True)
class Weights:
    r"""Weights that `load_foundation_model` finds by a short name.

    Arguments:
        backend: The backend that reads them, a key of `adapts.registry.FOUNDATION_MODELS`.
        hub: The repository on the Hugging Face hub; None if they are elsewhere.
        parameters: The number of parameters, as their publisher states it or as counted; None if neither is known, 0
            for models without weights.
        code: The licence of the code.
        weights: The licence of the weights; None if the publisher's package and page state none for them.
        production: Whether the licence of the weights allows production use; None if this is not stated, or
            conditional.
        context_length: The longest context in steps; None if the checkpoint alone tells.
        prediction_length: The steps of one pass; None likewise.
        levels: The number of quantile levels; 1 for points, None likewise.
        differentiable: Whether gradients reach the context.
        source: Where they come from: the hub, the package of adapts, the package that the extra installs, or nowhere,
            for models that are fitted to each context.
    """

    backend: str
    hub: str | None = None
    parameters: float | None = None
    code: str = APACHE
    weights: str | None = None
    production: bool | None = None
    context_length: int | None = None
    prediction_length: int | None = None
    levels: int | None = None
    differentiable: bool = True
    source: Literal["hub", "adapts", "package", "fitted"] = "hub"


_BOLT = Weights(
    "chronos-bolt", weights=APACHE, production=True, context_length=2048, prediction_length=64, levels=9
)  # fmt: skip
_T5 = Weights(
    "chronos-t5", weights=APACHE, production=True, context_length=512, prediction_length=64, levels=9,
    differentiable=False,
)  # fmt: skip
_TIMESFM = Weights("timesfm", weights=APACHE, production=True, prediction_length=128, levels=9)
_TOTO = Weights("toto-2", levels=9)
_T0 = Weights("t0", weights=APACHE, production=True, prediction_length=1024)
_MOMENT = Weights("moment", code="MIT", weights="MIT", production=True, context_length=512, levels=9)
_MOIRAI1 = Weights("moirai-1", context_length=4096, prediction_length=64, levels=9, differentiable=False)
_TTM = Weights("ttm", weights=APACHE, production=True, levels=1)
_FITTED = Weights("statsforecast", parameters=0, context_length=512, prediction_length=256, levels=9,
                  production=True, differentiable=False, source="fitted")  # fmt: skip

#: Known weights by name.
WEIGHTS: dict[str, Weights] = {
    "bolt-nano": replace(_BOLT, parameters=3.86e6, context_length=504, prediction_length=96, source="adapts"),
    "chronos-bolt-tiny": replace(_BOLT, hub="amazon/chronos-bolt-tiny", parameters=9e6),
    "chronos-bolt-mini": replace(_BOLT, hub="amazon/chronos-bolt-mini", parameters=21e6),
    "chronos-bolt-small": replace(_BOLT, hub="amazon/chronos-bolt-small", parameters=48e6),
    "chronos-bolt-base": replace(_BOLT, hub="amazon/chronos-bolt-base", parameters=205e6),
    "chronos-2": Weights("chronos-2", "amazon/chronos-2", 120e6, APACHE, APACHE, True, 8192, 1024, 21),
    "chronos-2-small": Weights("chronos-2", "autogluon/chronos-2-small", 28e6, context_length=8192),
    "chronos-2-synth": Weights("chronos-2", "autogluon/chronos-2-synth", 120e6, context_length=8192),
    "chronos-t5-tiny": replace(_T5, hub="amazon/chronos-t5-tiny", parameters=8e6),
    "chronos-t5-mini": replace(_T5, hub="amazon/chronos-t5-mini", parameters=20e6),
    "chronos-t5-small": replace(_T5, hub="amazon/chronos-t5-small", parameters=46e6),
    "chronos-t5-base": replace(_T5, hub="amazon/chronos-t5-base", parameters=200e6),
    "chronos-t5-large": replace(_T5, hub="amazon/chronos-t5-large", parameters=710e6),
    "timesfm-2.0": replace(_TIMESFM, hub="google/timesfm-2.0-500m-pytorch", parameters=500e6, context_length=2048),
    "timesfm-2.5": replace(
        _TIMESFM, hub="google/timesfm-2.5-200m-transformers", parameters=231.3e6, context_length=16384
    ),
    "timesfm-3": Weights(
        "timesfm-3",
        "google/timesfm-3.0-pytorch",
        330.7e6,
        weights="timesfm-non-commercial-license-v1.0",
        production=False,
        context_length=15360,
        levels=9,
    ),  # fmt: skip
    "toto-2-4m": replace(_TOTO, hub="Datadog/Toto-2.0-4m", parameters=4e6),
    "toto-2-22m": replace(_TOTO, hub="Datadog/Toto-2.0-22m", parameters=22e6),
    "toto-2-313m": replace(_TOTO, hub="Datadog/Toto-2.0-313m", parameters=313e6),
    "toto-2-1b": replace(_TOTO, hub="Datadog/Toto-2.0-1B", parameters=1e9),
    "toto-2-2.5b": replace(_TOTO, hub="Datadog/Toto-2.0-2.5B", parameters=2.5e9),
    # Its code needs mlstm_kernels, which is under the NXAI Community License: production use is conditional.
    "tirex-2": Weights(
        "tirex-2",
        "NX-AI/TiRex-2",
        82.5e6,
        code="Apache-2.0, with mlstm_kernels under the NXAI Community License",
        weights=APACHE,
        levels=9,
    ),  # fmt: skip
    "tirex": Weights(
        "tirex",
        "NX-AI/TiRex",
        code="NXAI Community License",
        levels=9,
        differentiable=False,
        weights="NXAI Community License (attribution; a commercial licence above EUR 100M annual revenue)",
    ),  # fmt: skip
    "t0-alpha": replace(_T0, hub="theforecastingcompany/t0-alpha", parameters=101.6e6, levels=5),
    "t0-beta": replace(_T0, hub="theforecastingcompany/t0-beta", levels=21),
    "t0-gamma": replace(_T0, hub="theforecastingcompany/t0-gamma"),
    "moirai-2-small": Weights("moirai-2", "Salesforce/moirai-2.0-R-small", 11.4e6, prediction_length=64, levels=9),
    "moirai-1.1-small": replace(_MOIRAI1, hub="Salesforce/moirai-1.1-R-small", parameters=13.8e6),
    "moirai-1.1-base": replace(_MOIRAI1, hub="Salesforce/moirai-1.1-R-base"),
    "moirai-1.1-large": replace(_MOIRAI1, hub="Salesforce/moirai-1.1-R-large"),
    "moment-small": replace(_MOMENT, hub="AutonLab/MOMENT-1-small"),
    "moment-base": replace(_MOMENT, hub="AutonLab/MOMENT-1-base"),
    "moment-large": replace(_MOMENT, hub="AutonLab/MOMENT-1-large"),
    "ttm-r1": replace(
        _TTM, hub="ibm-granite/granite-timeseries-ttm-r1", parameters=805e3, context_length=512, prediction_length=96
    ),  # fmt: skip
    "ttm-r2": replace(_TTM, hub="ibm-granite/granite-timeseries-ttm-r2", context_length=512, prediction_length=96),
    "flowstate-r1": Weights(
        "flowstate", "ibm-granite/granite-timeseries-flowstate-r1", 9.07e6, APACHE, APACHE, True, 2048, 24, 9
    ),  # fmt: skip
    "patchtst-fm-r1": Weights(
        "patchtst-fm", "ibm-granite/granite-timeseries-patchtst-fm-r1", 260e6, context_length=8192, levels=21
    ),  # fmt: skip
    "patchtst-fm-r2": Weights("patchtst-fm", "ibm-granite/granite-timeseries-patchtst-fm-r2"),
    "yug": Weights(
        "yug",
        "birlaailabs/yug",
        271.8e6,
        weights="non-commercial",
        production=False,
        context_length=2048,
        prediction_length=64,
        levels=9,
    ),  # fmt: skip
    "nanoforecast-500k": Weights("nanoforecast", "eulogik/nanoforecast-500k", levels=5),
    "fracast-0": Weights("fracast", None, 85_001, APACHE, APACHE, True, 2048, 48, 9, source="package"),
    "auto-ets": _FITTED,
    "theta": _FITTED,
}


def known_names() -> tuple[str, ...]:
    r"""Return all names that a saved file may refer to: short names, and their repositories on the hub.

    Example:
        >>> from adapts.foundation.names import known_names
        >>> {"bolt-nano", "chronos-2", "amazon/chronos-2"} <= set(known_names())
        True
    """
    return (*WEIGHTS, *(entry.hub for entry in WEIGHTS.values() if entry.hub is not None))


def size_words(weights: Weights) -> str:
    r"""Return the number of parameters in words.

    Arguments:
        weights: The weights.

    Returns:
        The number in millions or thousands, "no weights", or that it is not known.
    """
    count = weights.parameters
    if count is None:
        return "size not stated"
    if count == 0:
        return "no weights"
    if count >= 1e9:
        return f"{count / 1e9:.3g} B parameters"
    return f"{count / 1e6:.3g} M parameters" if count >= 1e6 else f"{count / 1e3:.0f} k parameters"


def licence_words(weights: Weights) -> str:
    r"""Return the licence and whether it allows production use, in words.

    Arguments:
        weights: The weights.
    """
    code = f"code {weights.code}"
    if weights.parameters == 0:
        return f"{code}, production use allowed"
    if weights.weights is None:
        return f"{code}, weights' licence not stated: read the page on the hub"
    use = {True: "production use allowed", False: "no production use", None: "production use on conditions"}
    return f"{code}, weights {weights.weights}: {use[weights.production]}"
