r"""Options in the style of scikit-learn's estimators, with the frozen model and the fit they belong to."""

from __future__ import annotations

__all__ = ["Estimator"]

import inspect
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from . import checks
from ._logging import get_logger
from .adapters import AdapterModule, make
from .errors import shown, unknown
from .fitting.fitted import Fitted
from .foundation import FoundationModel
from .foundation.several import load_models
from .options import FIELDS, TRAINING, check_options, same_value
from .persistence import saving
from .presets import check_training, family_of, is_trained

logger = get_logger(__name__)

_LOADING = threading.Lock()  # one thread loads a frozen model, the others wait for it


class Estimator:
    r"""Options, the frozen model that they name, and the fit.

    Arguments:
        **options: The options that the subclass declares.
    """

    foundation_model: Any
    prediction_length: int
    context_length: int | None
    objective: str | None
    horizon_weights: float | None
    learning_rate: float | None
    copula: str
    recalibration: str
    gate: bool
    probe_head: bool | None
    support: tuple[float, float] | Mapping[str, tuple[float, float]] | None
    posterior_draws: int
    splits: tuple[float, float, float, float]
    max_windows: int | None
    seed: int
    batch_size: int
    device: str
    trainer_options: Mapping[str, Any] | None

    def __init__(self, **options: Any) -> None:
        for name, value in options.items():
            setattr(self, name, value)
        self._model: FoundationModel | None = None
        self._expected: str | None = None  # the sha256 of the model that an unpickled adapter was fitted around
        self.fitted_ = None
        self._check()

    def _check(self) -> None:
        self._check_values()
        check_training({name: x for name in TRAINING if (x := getattr(self, name)) is not None}, self.family)

    def _check_values(self) -> None:
        r"""Check each option separately, except those of training."""
        check_options({name: getattr(self, name) for name in FIELDS if name != "family"})

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("foundation_model", "device") and vars(self).get(name, value) is not value:
            self._model, self._expected = None, None  # another model, or on another device
        super().__setattr__(name, value)

    @property
    def family(self) -> AdapterModule:
        r"""The family, with its hyperparameters; that of the preset if a name was given."""
        return self._family

    @family.setter
    def family(self, family: str | Path | AdapterModule) -> None:
        self._family, self._recipe_training = family_of(family)
        self._given_family = family

    @property
    def training_(self) -> dict[str, Any]:
        r"""The options of training by gradient: given ones override those of the preset."""
        given = {name: getattr(self, name) for name in TRAINING}
        return {name: self._recipe_training.get(name) if value is None else value for name, value in given.items()}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        r"""Return the options as they were given, as scikit-learn's estimators do.

        Arguments:
            deep: Whether to add the family's own options, as `family__latent_channels`.

        Returns:
            The options by name.
        """
        checks.flag("get_params expects deep", deep)
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        params = {name: self._given_family if name == "family" else getattr(self, name) for name in names}
        if deep:
            params |= {f"family__{name}": value for name, value in self.family.options().items()}
        return params

    def set_params(self, **params: Any) -> Self:
        r"""Change options. This discards the fit: fit again.

        Arguments:
            **params: Options by name; the family's own as `family__latent_channels`.

        Returns:
            The adapter itself.

        Raises:
            ValueError: If an option is unknown or a value is invalid; the adapter is then unchanged.
        """
        if not params:
            return self
        current = self.get_params(deep=False)
        inner = {name.removeprefix("family__"): x for name, x in params.items() if name.startswith("family__")}
        outer = {name: value for name, value in params.items() if not name.startswith("family__")}
        for name in outer:
            if name not in current:
                raise ValueError(unknown("option of Adapter", name, self.get_params()))
        new = type(self)(**{**current, **outer})
        if inner:
            family = make(new.family.family, {**new.family.options(), **inner})
            training = new.training_ if is_trained(family) else {name: getattr(new, name) for name in TRAINING}
            new = type(self)(**{**current, **outer, **training, "family": family})
        if all(getattr(new, name) is getattr(self, name) for name in ("foundation_model", "device")):
            new._model, new._expected = self._model, self._expected
        vars(self).update(vars(new))
        return self

    def clone(self) -> Self:
        r"""Return an unfitted adapter with the same options, which shares the loaded foundation model."""
        copy = type(self)(**self.get_params(deep=False))
        copy._model = self._model
        return copy

    __sklearn_clone__ = clone  # what `sklearn.base.clone` calls

    def __getstate__(self) -> dict[str, Any]:
        r"""Return options and saved form for pickling. A model with an address is loaded again instead."""
        if self.fitted_ is None:
            return {"params": self.get_params(deep=False), "packed": None}
        expected = self._expected or self.model.fingerprint()["sha256"]
        packed = *saving.pack(self.require_fitted("pickle")), expected
        return {"params": self.get_params(deep=False), "packed": packed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        type(self).__init__(self, **state["params"])
        if state["packed"] is not None:
            config, tensors, expected = state["packed"]
            self.fitted_ = saving.unpickled(config, tensors, self.family, int(self.prediction_length))
            self._expected = expected

    @property
    def fitted_(self) -> Fitted | None:
        r"""The fit; None before."""
        return self._fit

    @fitted_.setter
    def fitted_(self, fitted: Fitted | None) -> None:
        self._fit = fitted
        self._fitted_options = self.get_params(deep=False)

    def require_fitted(self, what: str) -> Fitted:
        r"""Return the fit.

        Arguments:
            what: The method that needs it, for the message.

        Raises:
            ValueError: If the adapter is not fitted, or an option was changed since.
        """
        if self.fitted_ is None:
            hint = (
                '; without a fit, only Adapter("identity", ...).predict(series) forecasts' if what == "predict" else ""
            )
            raise ValueError(f"Adapter.{what} needs a fitted adapter: call fit(series) first{hint}")
        self._check_values()  # attributes may have been set
        for name, current in self.get_params(deep=False).items():
            fitted = self._fitted_options[name]
            if FIELDS[name].metadata["frozen"] and not same_value(current, fitted):
                change = f"from {shown(fitted)} to {shown(current)}"
                raise ValueError(f"{name} was changed since fit, {change}: fit again, or set it back")
        return self.fitted_

    @property
    def model(self) -> FoundationModel:
        r"""The frozen foundation model, loaded when it is first needed; one of points is given a distribution."""
        if self._model is None:
            with _LOADING:
                if self._model is None:
                    self._model = self._load_model()
        return self._model

    @model.setter
    def model(self, model: FoundationModel) -> None:
        self._model = model

    def share_model(self, other: Estimator) -> None:
        r"""Use the loaded foundation model of another adapter, if none is loaded and the device is the same.

        Arguments:
            other: The other adapter.
        """
        if self._model is None and self.device == other.device:
            self._model = other.model

    def _load_model(self) -> FoundationModel:
        r"""Load the frozen model; for an unpickled adapter it must be the one that it was fitted around."""
        if self._expected is None:
            return load_models(self.foundation_model, self.device)
        remedy = "choose a model with adapter.use_foundation_model(model), or fit again"
        try:
            model = load_models(self.foundation_model, self.device)
        except ValueError as error:
            raise ValueError(
                f"the foundation model of the unpickled adapter cannot be loaded ({error}): {remedy}"
            ) from error
        if model.fingerprint()["sha256"] != self._expected:
            raise ValueError(
                f"the adapter was fitted around another foundation model than the current "
                f"{shown(self.foundation_model)}: {remedy}"
            )
        return model

    def use_foundation_model(self, model: Any) -> Self:
        r"""Replace the frozen model, and keep the fit.

        This is for unpickled adapters whose model has moved.

        Arguments:
            model: The frozen model, or the list of models, as for `Adapter`. A warning is logged if its weights differ
                from those of the fit.

        Returns:
            The adapter itself.

        Raises:
            ValueError: If the adapter is not fitted, there is no such model, or the trained head does not match it.
        """
        self.require_fitted("use_foundation_model")
        self.use_loaded(model, load_models(model, self.device))
        return self

    def use_loaded(self, model: Any, loaded: FoundationModel) -> None:
        r"""Use a loaded frozen model for the fit.

        Arguments:
            model: Its name, as for `Adapter`.
            loaded: The model.
        """
        fitted = self.require_fitted("use_foundation_model")
        expected = self._expected if self._model is None else self._model.fingerprint()["sha256"]
        _require_head(fitted, loaded)
        if loaded.fingerprint()["sha256"] != expected:
            _warn_of_other_weights(loaded)
        self.foundation_model, self._model, self._expected = model, loaded, None
        self._fitted_options = {**self._fitted_options, "foundation_model": model}

    def take(self, fitted: Fitted, expected: Mapping[str, str], *, named: bool, call: Callable[[str], str]) -> None:
        r"""Use a loaded fit.

        Arguments:
            fitted: The fit.
            expected: The fingerprint of its frozen model.
            named: Whether the caller named the frozen model, which may then be another.
            call: A function that formats the call with a given frozen model, for the message.

        Raises:
            ValueError: If the frozen model is another one that the caller did not name.
        """
        found = self.model.fingerprint()
        if found["sha256"] != expected["sha256"]:
            if not named:
                raise ValueError(
                    f"the adapter was fitted around the foundation model {expected['name']} {expected['version']} "
                    f"(sha256 {expected['sha256'][:12]}), found {found['name']} {found['version']} (sha256 "
                    f"{found['sha256'][:12]}): fit again, or choose a model with {call('model')}"
                )
            _warn_of_other_weights(self.model)
        _require_head(fitted, self.model)
        self.fitted_ = fitted


def _require_head(fitted: Fitted, model: FoundationModel) -> None:
    r"""Check that further models are those of the fit, and that the trained head matches the model."""
    further, found = fitted.module.further, tuple(member.name for member in model.members[1:])
    if found != further:
        expected = "one foundation model"
        if further:
            expected = f"{1 + len(further)} foundation models, the first followed by {', '.join(further)}"
        raise ValueError(f"the adapter was fitted around {expected}, got {model.name}: pass the same in this order")
    if fitted.head:
        model.with_head(fitted.head)


def _warn_of_other_weights(model: FoundationModel) -> None:
    logger.warning(
        "%s has other weights than the foundation model that the adapter was fitted around: the adapter corrects "
        "the errors of another model", model.name,
    )  # fmt: skip
