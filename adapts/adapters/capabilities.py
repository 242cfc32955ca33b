r"""What a family declares about itself, in frozen objects that wrappers forward."""

from __future__ import annotations

__all__ = ["Capabilities", "Optimisation"]

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    r"""What an adapter family can do, and what it needs from training, prediction and loading.

    A family overrides the property `AdapterModule.capabilities`. Some values depend on its options and on its fitted
    state.

    Arguments:
        observed_latents: Whether the latent channels are the observed ones. One pass of the frozen model then also
            gives the zero-shot forecast.
        fixed_latents: Whether training leaves the latent channels unchanged, so that they are forecast only once.
        mixes_channels: Whether decoding mixes channels. The observed marginals then depend on the joint distribution of
            the latent channels.
        closed_form: Whether `solve` computes the parameters in closed form, without gradient steps.
        stochastic: Whether encoding or decoding is random.
        stochastic_latents: Whether each draw has its own latent channels, and so its own passes of the frozen model.
        supports_updates: Whether the family learns from windows that arrive after the fit.
        needs_forecast: Whether `decode` reads the frozen model's medians of the observed channels from the state.
        needs_quantiles: The same of its quantiles.
        needs_known: Whether `decode` reads the known covariates from the state, where there are any.
        needs_further: Whether `decode` reads the forecasts of further frozen models from the state.
        takes_further: Whether it can be built to average forecasts of further frozen models.
        needs_calendar: Whether `decode` reads the calendar from the state, where a cycle is longer than the context.
        penalised: Whether `penalty` is not zero. The state then also holds the frozen model's forecasts.
        fits_after_training: Whether `after_training` fits anything.
        found_later: Buffers whose sizes are known only once they are fitted, not when the family is built.
        unbounded: Parameters and buffers that may hold infinite values.
        undecayed: Name prefixes of parameters that have a prior of their own and therefore no weight decay.
        of_likelihood: Name prefixes of parameters that only `likelihood` reads: other objectives do not train them.
    """

    observed_latents: bool = False
    fixed_latents: bool = False
    mixes_channels: bool = True
    closed_form: bool = False
    stochastic: bool = False
    stochastic_latents: bool = False
    supports_updates: bool = False
    needs_forecast: bool = False
    needs_quantiles: bool = False
    needs_known: bool = False
    needs_calendar: bool = False
    needs_further: bool = False
    takes_further: bool = False
    penalised: bool = False
    fits_after_training: bool = False
    found_later: tuple[str, ...] = ()
    unbounded: tuple[str, ...] = ()
    undecayed: tuple[str, ...] = ()
    of_likelihood: tuple[str, ...] = ()

    def inside(self, prefixes: Iterable[str]) -> Self:
        r"""Return the capabilities of a wrapper that holds the family under names of its own.

        Arguments:
            prefixes: The prefixes that the wrapper gives to the names of parameters and buffers, one per copy.
        """
        prefixes = list(prefixes)
        found_later, undecayed = (
            tuple(f"{prefix}{name}" for prefix in prefixes for name in names)
            for names in (self.found_later, self.undecayed)
        )
        return replace(self, found_later=found_later, undecayed=undecayed, of_likelihood=())


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    r"""How a family is trained by gradient, where the caller says nothing else.

    Arguments:
        learning_rate: AdamW's learning rate, its maximum over a one-cycle schedule.
        weight_decay: The decay of the parameters towards zero.
        one_cycle: Whether the learning rate rises and falls once over all epochs (Smith and Topin, 2018). Otherwise it
            is multiplied by 0.3 when the validation loss has not improved for two epochs.
        epochs: The maximum number of epochs.
        patience: The number of epochs without a lower validation loss after which training stops.
        batch_size: The maximum number of windows in a step.
        averaging: The decay of an exponential moving average of the parameters over steps, which is validated and kept
            instead of the parameters themselves; 0 for none.
        refits: Whether, once the gate and the calibration are fitted, the family is trained anew on the windows of all
            splits, for as many epochs as were best on the validation windows.
    """

    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    one_cycle: bool = False
    epochs: int = 20
    patience: int = 3
    batch_size: int = 2**31
    averaging: float = 0.0
    refits: bool = False
