r"""An estimator's options, as scikit-learn has them, and the frozen model and the fit that go with them."""

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
from .foundation import FoundationModel, load_foundation_model
from .options import FIELDS, TRAINING, check_options, same_value
from .persistence import saving
from .presets import check_training, family_of, is_trained

logger = get_logger(__name__)

_LOADING = threading.Lock()  # one thread loads a frozen model, the others wait for it


class Estimator:
    r"""Options, the frozen model that they name, and what was fitted with them.

    Arguments:
        **options: The options, as the subclass declares them.
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
    max_windows: int
    seed: int
    batch_size: int
    device: str
    trainer_options: Mapping[str, Any] | None

    def __init__(self, **options: Any) -> None:
        for name, value in options.items():
            setattr(self, name, value)
        self._model: FoundationModel | None = None
        self._expected: str | None = None  # the sha256 of the model that a pickled adapter was fitted around
        self.fitted_ = None
        self._check()

    def _check(self) -> None:
        self._check_values()
        check_training({name: x for name in TRAINING if (x := getattr(self, name)) is not None}, self.family)

    def _check_values(self) -> None:
        r"""Checks each option by itself, those of training aside."""
        check_options({name: getattr(self, name) for name in FIELDS if name != "family"})

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("foundation_model", "device") and vars(self).get(name, value) is not value:
            self._model, self._expected = None, None  # it is another's, or lies elsewhere
        super().__setattr__(name, value)

    @property
    def family(self) -> AdapterModule:
        r"""The family, with its hyperparameters: that of the recipe where a name was given."""
        return self._family

    @family.setter
    def family(self, family: str | Path | AdapterModule) -> None:
        self._family, self._recipe_training = family_of(family)
        self._given_family = family

    @property
    def training_(self) -> dict[str, Any]:
        r"""The options of training by gradient: what the recipe says, unless told otherwise."""
        given = {name: getattr(self, name) for name in TRAINING}
        return {name: self._recipe_training.get(name) if value is None else value for name, value in given.items()}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        r"""Returns the options as they were given, as scikit-learn's estimators do.

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
        r"""Changes options. What was fitted with others is forgotten: fit again.

        Arguments:
            **params: Options by name; the family's own as `family__latent_channels`.

        Returns:
            The adapter itself.

        Raises:
            ValueError: If there is no such option, or a value is not fit for it; the adapter then stays as it is.
        """
        if not params:
            return self
        own = self.get_params(deep=False)
        inner = {name.removeprefix("family__"): x for name, x in params.items() if name.startswith("family__")}
        outer = {name: value for name, value in params.items() if not name.startswith("family__")}
        for name in outer:
            if name not in own:
                raise ValueError(unknown("option of Adapter", name, self.get_params()))
        new = type(self)(**{**own, **outer})
        if inner:
            family = make(new.family.family, {**new.family.options(), **inner})
            training = new.training_ if is_trained(family) else {name: getattr(new, name) for name in TRAINING}
            new = type(self)(**{**own, **outer, **training, "family": family})
        if all(getattr(new, name) is getattr(self, name) for name in ("foundation_model", "device")):
            new._model, new._expected = self._model, self._expected
        vars(self).update(vars(new))
        return self

    def clone(self) -> Self:
        r"""Returns an adapter with the same options, not fitted; the loaded foundation model is shared."""
        other = type(self)(**self.get_params(deep=False))
        other._model = self._model
        return other

    __sklearn_clone__ = clone  # what `sklearn.base.clone` calls

    def __getstate__(self) -> dict[str, Any]:
        r"""What is pickled: options, and the saved form. A model that has an address is found again, not pickled."""
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
        r"""What was fitted; None before."""
        return self._of_fit

    @fitted_.setter
    def fitted_(self, fitted: Fitted | None) -> None:
        self._of_fit = fitted
        self._options_of_fit = self.get_params(deep=False)

    def require_fitted(self, what: str) -> Fitted:
        r"""Return what was fitted.

        Arguments:
            what: The method that needs it.

        Raises:
            ValueError: If the adapter is not fitted, or an option was changed since.
        """
        if self.fitted_ is None:
            raise ValueError(f"Adapter.{what} needs a fitted adapter: call fit(series) first")
        self._check_values()  # attributes may have been set
        for name, now in self.get_params(deep=False).items():
            then = self._options_of_fit[name]
            if FIELDS[name].metadata["frozen"] and not same_value(now, then):
                change = f"from {shown(then)} to {shown(now)}"
                raise ValueError(f"{name} was changed since fit, {change}: fit again, or set it back")
        return self.fitted_

    @property
    def model(self) -> FoundationModel:
        r"""The frozen foundation model, loaded when it is first needed."""
        if self._model is None:
            with _LOADING:
                if self._model is None:
                    self._model = self._found()
        return self._model

    @model.setter
    def model(self, model: FoundationModel) -> None:
        self._model = model

    def share_model(self, other: Estimator) -> None:
        r"""Take the loaded foundation model of another adapter, where none is loaded and the device is the same.

        Arguments:
            other: The other adapter.
        """
        if self._model is None and self.device == other.device:
            self._model = other.model

    def _found(self) -> FoundationModel:
        r"""The frozen model at its address; for an unpickled adapter the very one that it was fitted around."""
        if self._expected is None:
            return load_foundation_model(self.foundation_model, device=self.device)
        remedy = "name the model to use with adapter.use_foundation_model(model), or fit again"
        try:
            model = load_foundation_model(self.foundation_model, device=self.device)
        except ValueError as error:
            raise ValueError(
                f"the adapter was unpickled, and its foundation model is gone ({error}): {remedy}"
            ) from error
        if model.fingerprint()["sha256"] != self._expected:
            raise ValueError(
                f"the adapter was fitted around another foundation model than {shown(self.foundation_model)} is here "
                f"and now: {remedy}"
            )
        return model

    def use_foundation_model(self, model: Any) -> Self:
        r"""Forecasts with a frozen model that is named, and keeps the fit.

        For an unpickled adapter whose model has moved: a pickle is code, and its model is looked for where it was.

        Arguments:
            model: The frozen model, as `Adapter` takes it. A warning tells where its weights differ from those of the
                fit.

        Returns:
            The adapter itself.

        Raises:
            ValueError: If the adapter is not fitted, there is no such model, or the trained head does not fit it.
        """
        self.require_fitted("use_foundation_model")
        self.use_loaded(model, load_foundation_model(model, device=self.device))
        return self

    def use_loaded(self, model: Any, loaded: FoundationModel) -> None:
        r"""Take a loaded frozen model for the fit.

        Arguments:
            model: What names it, as `Adapter` takes it.
            loaded: The model.
        """
        fitted = self.require_fitted("use_foundation_model")
        expected = self._expected if self._model is None else self._model.fingerprint()["sha256"]
        _require_place(fitted, loaded)
        if loaded.fingerprint()["sha256"] != expected:
            _warn_of_another(loaded)
        self.foundation_model, self._model, self._expected = model, loaded, None
        self._options_of_fit = {**self._options_of_fit, "foundation_model": model}

    def take(self, fitted: Fitted, expected: Mapping[str, str], *, named: bool, call: Callable[[str], str]) -> None:
        r"""Take what was loaded of a fit.

        Arguments:
            fitted: What was fitted.
            expected: The fingerprint of the frozen model that it was fitted around.
            named: Whether the caller named the frozen model, which may then be another.
            call: Gives the call that names one, for the message.

        Raises:
            ValueError: If the frozen model is another, and was not named.
        """
        found = self.model.fingerprint()
        if found["sha256"] != expected["sha256"]:
            if not named:
                raise ValueError(
                    f"the adapter was fitted around the foundation model {expected['name']} {expected['version']} "
                    f"(sha256 {expected['sha256'][:12]}), found {found['name']} {found['version']} (sha256 "
                    f"{found['sha256'][:12]}): fit again, or name the model to use with {call('model')}"
                )
            _warn_of_another(self.model)
        _require_place(fitted, self.model)
        self.fitted_ = fitted


def _require_place(fitted: Fitted, model: FoundationModel) -> None:
    r"""Checks that a frozen model has a place for the head that was trained."""
    if fitted.head:
        model.with_head(fitted.head)


def _warn_of_another(model: FoundationModel) -> None:
    logger.warning(
        "%s has other weights than the foundation model that the adapter was fitted around: its forecasts are "
        "corrected for another model's errors", model.name,
    )  # fmt: skip
