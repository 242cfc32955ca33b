r"""A fitted adapter without gate and recalibration, as the adapters of the paper are used, from the same training."""

from dataclasses import replace

from adapts import Adapter
from adapts.adapters import AdapterModule
from adapts.data.cards import Dataset
from adapts.data.panel import Panel
from adapts.fitting.calibrate import calibration
from adapts.fitting.confirm import confirmation
from adapts.fitting.context import FitOptions, begin
from adapts.fitting.fitted import Fitted
from adapts.fitting.gate import gate
from adapts.fitting.run import PARAMETERS
from adapts.fitting.state import FitState
from adapts.foundation import FoundationModel


def ungated(adapter: Adapter) -> Adapter:
    r"""An adapter with the same options but `gate=False` and `recalibration="none"`, not fitted."""
    return adapter.clone().set_params(gate=False, recalibration="none")


def without_gate(adapter: Adapter, data: Dataset) -> Adapter:
    r"""The adapter as `fit` leaves it with `gate=False` and `recalibration="none"`, with the parameters of another fit.

    Only the stages after the training are run again. This holds for families that `fit` does not train anew on later
    rows.

    Arguments:
        adapter: The adapter fitted with a gate and recalibration.
        data: The series of its fit.

    Returns:
        The adapter.
    """
    trained = adapter.fitted_
    assert (
        trained is not None and not trained.module.optimisation.refits and not trained.module.capabilities.closed_form
    )

    def stages(panel: Panel, module: AdapterModule, model: FoundationModel, options: FitOptions) -> Fitted:
        limit = trained.decisions.get("time_limit")
        fewer = None if limit is None or "windows" not in limit.figures else int(limit.figures["windows"])
        context, fresh = begin(panel, module, model, replace(options, most_windows=fewer), checkpoint_dir=None)
        parameters = {stage.__name__ for stage in PARAMETERS}
        fitted = replace(
            trained, gate=None, noise=None, tails=None, latent_ranks=False, left_out={}, declined={}, notices=(),
            copula=fresh.copula, recalibration=fresh.recalibration, bands=fresh.bands, windows=fresh.windows,
            decisions={name: decision for name, decision in trained.decisions.items() if name in parameters},
        )  # fmt: skip
        state = FitState.of(context, fitted)
        for stage in (gate, calibration, confirmation):
            fitted, decision = stage(replace(state, stage=stage.__name__))
            state = state.after(fitted.with_decision(stage.__name__, decision))
        return state.fitted

    alone = ungated(adapter)
    alone.fitted_ = alone.apply(stages, data)
    return alone
