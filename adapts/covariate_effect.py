r"""Effect of known covariates on the targets: slopes, divisors and their estimation."""

from __future__ import annotations

__all__ = ["KnownEffect", "generalised_slopes", "predictable", "slopes", "within_items"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .data.known_units import KnownUnits
from .data.panel import Panel
from .data.scaling import ROUNDING
from .imputation.interpolation import short_gaps
from .persistence.tensors import require_names, taken
from .statistics.ridge import RidgePath, cross_validated_error

#: Ridge strengths, relative to the mean eigenvalue of the regressors.
STRENGTHS = torch.logspace(-5, 3, 17, dtype=torch.float64)
#: The maximum autocorrelation of errors between horizon steps; at one, no mean would be identified.
MAX_AUTOCORRELATION = 0.98
#: The minimum fraction of a covariate's power that the frozen model must fail to predict, for its errors to identify
#: a slope.
MIN_UNPREDICTED = 0.01
#: The prior weight, in windows, of the mean over all items in the shrinkage of an item's mean.
ITEM_WINDOWS = 5
#: The constant added to a dividing covariate, as a fraction of its mean.
FLOOR = 0.2
_TENSORS = ("location", "scale", "weights", "divisor")


@dataclass(frozen=True)
class KnownEffect:
    r"""Effect of known covariates on the targets, subtracted before fitting and added back to forecasts.

    .. math:: r_t = \frac{y_t - B^\top c_t}{m_t}, \qquad F_y(u) = F_r \Bigl( \frac{u - B^\top c}{m} \Bigr), \qquad
        m_t = \frac{c_{jt} + \delta}{\bar c_j + \delta}

    A target has either slopes or a divisor. The divisor is the :math:`j`-th covariate with an added floor
    :math:`\delta`, a fifth of its mean, since division by almost zero would amplify noise. If a covariate in use is
    missing in a short gap, :math:`r` is missing; in longer gaps the covariate is set to its mean. Static columns let
    slopes differ by item: :math:`c_t` also contains their interactions with the covariates.

    Arguments:
        names: The :math:`C` time-varying known covariates, calendar features last.
        static: The :math:`S` static columns.
        location: The means of both, with shape :math:`(C + S,)`: over the train rows, for numeric static columns over
            the items, and 0 for indicators.
        scale: The standard deviations over the same, with shape :math:`(C + S,)`; 1 for constants and indicators.
        weights: The matrix :math:`B` between standardised covariates and standardised targets, with shape
            :math:`(C, D)`, or :math:`(C (1 + S), D)` with static columns.
        divisor: The index of the covariate that divides each target, -1 for none, with shape :math:`(D,)`.
    """

    names: tuple[str, ...]
    static: tuple[str, ...]
    location: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    divisor: np.ndarray

    @staticmethod
    def none(panel: Panel, rows: Callable[[Panel], np.ndarray]) -> KnownEffect:
        r"""Return the effect with zero slopes and without divisors.

        Arguments:
            panel: The panel of the fit.
            rows: A function that returns the train rows of a panel, with shape :math:`(n, C)`.

        Returns:
            The effect.
        """
        units, targets = KnownUnits.of(panel, rows), len(panel.targets)
        weights = np.zeros((len(units.names), targets))
        return KnownEffect(units.names, units.static, units.location, units.scale, weights, np.full(targets, -1))

    def with_slopes(self, weights: np.ndarray, divisor: np.ndarray) -> KnownEffect:
        r"""Return the effect with other slopes and divisors; static columns are dropped if there are no interactions.

        Arguments:
            weights: As for the class.
            divisor: As for the class.

        Returns:
            The effect.
        """
        effect = replace(self, weights=weights, divisor=divisor)
        if effect.has_interactions:
            return effect
        count = len(self.names)
        return replace(effect, static=(), location=self.location[:count], scale=self.scale[:count])

    @property
    def divides(self) -> bool:
        r"""Return whether any target has a divisor."""
        return bool((self.divisor >= 0).any())

    @property
    def has_interactions(self) -> bool:
        r"""Return whether static columns are used."""
        return len(self.weights) > len(self.names)

    @property
    def used(self) -> bool:
        r"""Return whether the effect is non-zero."""
        return self.divides or bool(self.weights.any())

    @property
    def uses(self) -> np.ndarray:
        r"""Return which covariates each target uses, with shape :math:`(C, D)`."""
        uses = np.asarray(self.weights.reshape(-1, len(self.names), self.weights.shape[1]).any(0))
        divided = self.divisor >= 0
        uses[self.divisor[divided], divided] = True
        return uses

    def standardised(self, panel: Panel) -> Panel:
        r"""Return the known covariates of a panel in units of the train rows, 0 where missing.

        Arguments:
            panel: A panel with all columns.

        Returns:
            The panel of these columns: time-varying ones first, then static ones.
        """
        return KnownUnits(self.names, self.static, self.location, self.scale).standardised(panel)

    def with_interactions(self, known: Tensor) -> Tensor:
        r"""Append the interactions of covariates with static columns.

        Arguments:
            known: Standardised covariates and static columns, with shape :math:`(*, C + S)`.

        Returns:
            The covariates and, grouped by static column, the interactions, with shape :math:`(*, C (1 + S))`.
        """
        if not self.static:
            return known
        varying, static = known.split([len(self.names), len(self.static)], -1)
        return torch.cat([varying, (static.unsqueeze(-1) * varying.unsqueeze(-2)).flatten(-2)], -1)

    def ratio(self, known: Tensor) -> Tensor:
        r"""Return the divisors :math:`m` for all covariates.

        Arguments:
            known: Standardised covariates, with shape :math:`(*, C)`; static columns after them are ignored.

        Returns:
            The divisors, with shape :math:`(*, C)`; 1 at the mean.
        """
        count = len(self.names)
        known = known[..., :count]
        location, scale = (torch.from_numpy(unit[:count]).to(known) for unit in (self.location, self.scale))
        floor = FLOOR * location
        return ((location + scale * known).clamp(min=0) + floor) / (location + floor)

    def shifts_and_divisors(self, panel: Panel, targets: tuple[str, ...], offset: np.ndarray) -> tuple[Panel, Panel]:
        r"""Return the shift subtracted from each row and the subsequent divisor, in units of the train rows.

        Arguments:
            panel: A panel with all columns.
            targets: The names of the targets.
            offset: The targets' means in units of their standard deviations, with shape :math:`(D,)`: division applies
                to the original values, not to deviations from the mean.

        Returns:
            Two panels of the targets' columns.
        """
        shifts, factors = [], []
        for item in self.standardised(panel).items:
            factor = np.ones((len(item), len(targets)))
            if self.divides:
                divided = self.divisor >= 0
                factor[:, divided] = self.ratio(torch.from_numpy(item.values)).numpy()[:, self.divisor[divided]]
            known = self.with_interactions(torch.from_numpy(item.values)).numpy()
            # Column by column: the rounding of a matrix product depends on the memory layout.
            effect = (known[:, :, None] * self.weights).sum(1)
            shifts.append(replace(item, values=effect + (factor - 1) * offset))
            factors.append(replace(item, values=factor))
        return tuple(  # type: ignore[return-value]
            Panel(tuple(items), targets, panel.frequency, panel.single, panel.item_column)
            for items in (shifts, factors)
        )

    def unknown_cells(self, panel: Panel) -> list[np.ndarray]:
        r"""Return the cells with an unknown effect: a covariate that the target uses is missing in a short gap.

        Arguments:
            panel: A panel with all columns.

        Returns:
            A mask of rows and targets for each item, with shape :math:`(T, D)`; gaps are those of
            `adapts.imputation.interpolation.short_gaps`.
        """
        uses, masks = self.uses, []
        for item in panel.select(self.names).items:
            short = short_gaps(torch.from_numpy(item.values.T))  # (C, T)
            masks.append(short.numpy().T.astype(float) @ uses > 0)
        return masks

    def state(self) -> dict[str, Tensor]:
        r"""Return the tensors of the effect, without names.

        Returns:
            Tensors only.
        """
        return {name: torch.from_numpy(getattr(self, name)) for name in _TENSORS}

    @staticmethod
    def from_state(panel: Panel, state: Mapping[str, Tensor]) -> KnownEffect:
        r"""Restore an effect from its `state()`.

        Arguments:
            panel: The panel of the fit.
            state: The tensors.

        Returns:
            The effect.

        Raises:
            ValueError: If a tensor does not fit the panel's known covariates.
        """
        require_names("the effect of known covariates", state, _TENSORS)
        names = tuple(name for name in panel.known_covariates if name not in panel.static_columns)
        columns, targets = len(names) + len(panel.static_columns), len(panel.targets)
        # Static columns are not saved if there are no interactions.
        count = columns if len(state["location"].shape) == 1 and len(state["location"]) == columns else len(names)
        location, scale = (taken(state, name, torch.float64, (count,)) for name in ("location", "scale"))
        if not names or bool((scale <= 0).any()):
            raise ValueError("the tensor 'scale' is expected to hold a positive number for each known covariate")
        weights = taken(state, "weights", torch.float64, (None, targets))
        divisor = taken(state, "divisor", torch.int64, (targets,), low=-1, high=len(names) - 1)
        used = bool(weights.any()) or bool((divisor >= 0).any())
        if len(weights) != len(names) * (1 + count - len(names)) and (used or len(weights) != len(names)):
            raise ValueError(f"the tensor 'weights' does not fit {count} known covariates, got {len(weights)} rows")
        if bool((location[divisor[divisor >= 0]] <= 0).any()):
            raise ValueError("the tensor 'divisor' is expected to name covariates whose means are positive")
        static = panel.static_columns[: count - len(names)]
        return KnownEffect(names, static, *(x.numpy() for x in (location, scale, weights, divisor)))


def within_items(values: Tensor, item: Tensor) -> Tensor:
    r"""Subtract each item's shrunken mean, so that level differences between items are not attributed to covariates.

    Arguments:
        values: The values of windows, with shape :math:`(n, H, C)`. NaN marks a missing step.
        item: The item of each window, with shape :math:`(n,)`.

    Returns:
        The values minus the means of their items. These are shrunk towards the overall mean with a prior weight of
        `ITEM_WINDOWS` windows, as a few windows hardly determine a level.
    """
    observed = ~values.isnan()
    index = item.unique(return_inverse=True)[1]
    shape = (int(index.max()) + 1 if len(index) else 0, values.shape[-1])
    count = torch.zeros(shape, dtype=torch.float64).index_add(0, index, observed.sum(1).double())
    total = torch.zeros(shape, dtype=torch.float64).index_add(0, index, values.nan_to_num(0.0).sum(1).double())
    mean = total.sum(0) / count.sum(0).clamp(min=1)
    weight = ITEM_WINDOWS * values.shape[1]
    return values - ((total + weight * mean) / (count + weight))[index].unsqueeze(1).to(values)


def predictable(deviations: Tensor, model_errors: Tensor) -> Tensor:
    r"""Return which covariates the frozen model predicts itself, so that its errors carry no information on them.

    Arguments:
        deviations: The covariates as deviations from the context's mean, with shape :math:`(n, H, C)`.
        model_errors: The covariates as deviations from the frozen model's forecasts, with shape :math:`(m, H, C)`.

    Returns:
        Whether the mean square of the latter is at most `MIN_UNPREDICTED` of the former's, with shape :math:`(C,)`.
    """
    total, residual = (values.double().square().mean((0, 1)) for values in (deviations, model_errors))
    return residual <= MIN_UNPREDICTED * total


def slopes(x: Tensor, y: Tensor, fold: Tensor, folds: int) -> Tensor:
    r"""Return ridge coefficients of each target on covariates, without each fold and with all of them.

    The regression has an intercept, which is neither penalised nor returned, so neither covariates nor targets need
    centring. Each target's ridge strength minimises the cross-validated error. If no strength improves on zero
    coefficients, these are zero.

    Arguments:
        x: The covariates, with shape :math:`(n, H, C)`.
        y: The targets, with shape :math:`(n, H, D)`. NaN marks a missing step.
        fold: The block of time of each window, with shape :math:`(n,)`; -1 marks windows in none.
        folds: The number of blocks :math:`F`.

    Returns:
        The coefficients, with shape :math:`(F + 1, C, D)`: first those without each of the :math:`F` folds, then those
        of all folds.
    """
    return _solved(x, y, fold, folds, 1)


def generalised_slopes(x: Tensor, y: Tensor, fold: Tensor, folds: int) -> Tensor:
    r"""Return ridge coefficients as `slopes`, for errors autocorrelated over horizon steps.

    The errors follow a first-order autoregression, whose coefficient is estimated from the errors of `slopes` (feasible
    generalised least squares). A persistent target repeats its error from step to step. Such errors count once, which
    makes the coefficients much more precise.

    References:
        | Trend Estimators and Serial Correlation (Prais & Winsten, 1954)

    Arguments:
        x: The covariates, with shape :math:`(n, H, C)`.
        y: The targets, with shape :math:`(n, H, D)`. NaN marks a missing step.
        fold: The block of time of each window, with shape :math:`(n,)`; -1 marks windows in none.
        folds: The number of blocks :math:`F`.

    Returns:
        The coefficients, with shape :math:`(F + 1, C, D)`: first those without each of the :math:`F` folds, then those
        of all folds.
    """
    return _solved(x, y, fold, folds, 2)


def _solved(x: Tensor, y: Tensor, fold: Tensor, folds: int, passes: int) -> Tensor:
    rows_of_folds = [(fold == index).nonzero().flatten() for index in range(folds)]
    coefficients = torch.zeros(folds + 1, x.shape[-1], y.shape[-1], dtype=torch.float64)
    regressors = [
        torch.cat([torch.ones_like(x[rows, :, :1]), x[rows]], -1).double() for rows in rows_of_folds
    ]  # with a constant

    def moments(left: list[Tensor], right: list[Tensor], observed: list[Tensor]) -> Tensor:
        return torch.stack([_moments(*array) for array in zip(left, right, observed, strict=True)])  # (F, 4, p, q)

    complete_gram = moments(
        regressors, regressors, [torch.ones_like(array[..., 0], dtype=torch.bool) for array in regressors]
    )
    for target in range(y.shape[-1]):
        targets = [y[rows, :, target, None].double() for rows in rows_of_folds]
        observed = [~array[..., 0].isnan() for array in targets]
        complete = all(bool(array.all()) for array in observed)
        gram = complete_gram if complete else moments(regressors, regressors, observed)
        cross, square = moments(regressors, targets, observed), moments(targets, targets, observed)
        joint = torch.cat([torch.cat([gram, cross], -1), torch.cat([cross.mT, square], -1)], -2)
        for left_out in range(folds + 1):  # strength and autoregression also exclude the fold
            coefficients[left_out, :, target] = _ridge(
                joint[[index for index in range(folds) if index != left_out]], passes
            )
    return coefficients


def _moments(x: Tensor, y: Tensor, observed: Tensor) -> Tensor:
    r"""Return sums of products (4, p, q): of steps, neighbours, steps before another and first steps."""
    follows, precedes = torch.zeros_like(observed), torch.zeros_like(observed)
    follows[:, 1:] = precedes[:, :-1] = observed[:, 1:] & observed[:, :-1]
    first = observed & ~follows
    neighbours = x[follows].mT @ y[precedes] + x[precedes].mT @ y[follows]
    others = (x[mask].mT @ y[mask] for mask in (precedes, first))
    return torch.stack([x[observed].mT @ y[observed], neighbours, *others])


def _ridge(moments: Tensor, passes: int) -> Tensor:
    r"""Return ridge coefficients (C,) at the cross-validated strength; 0 where none improves on zero."""
    # The moments (F, 4, C + 2, C + 2) cover the constant, the covariates and the target.
    persistence = torch.zeros((), dtype=torch.float64)
    unit = torch.eye(moments.shape[-1], dtype=moments.dtype)
    for _ in range(passes):  # the errors of one solution determine the weights of the next
        steps, neighbours, preceding, first = moments.unbind(1)
        whitened = steps - persistence * neighbours + persistence.square() * (preceding - first)
        mean = whitened.sum(0)[0] / whitened.sum(0)[0, 0].clamp(min=1e-12)
        centring = unit - torch.outer(mean, unit[0])  # subtracts the means; the constant becomes zero
        centred = centring @ whitened @ centring.mT
        # Columns that do not vary hold nothing but rounding errors.
        varies = centred.sum(0).diagonal() > ROUNDING * whitened.sum(0).diagonal()
        whitened = (centred * torch.outer(varies, varies))[:, 1:, 1:]
        gram, cross, square = whitened[:, :-1, :-1], whitened[:, :-1, -1:], whitened[:, -1, -1:]
        mean_eigenvalue = gram.sum(0).diagonal().mean().clamp(min=1e-12)
        errors = cross_validated_error(gram, cross, square, STRENGTHS * mean_eigenvalue)[:, 0]
        best = int(errors.argmin())
        coefficients = RidgePath(gram.sum(0), cross.sum(0)).solve(STRENGTHS[best] * mean_eigenvalue)[:, 0]
        coefficients = torch.where(varies[1:-1] & (errors[best] < square.sum()), coefficients, 0.0)
        error = centring.mT @ torch.cat(
            [coefficients.new_zeros(1), -coefficients, coefficients.new_ones(1)]
        )  # weights of the columns in the error
        products, earlier = (error @ moment.sum(0) @ error for moment in (neighbours, preceding))
        persistence = (products / 2 / earlier.clamp(min=1e-12)).clamp(0, MAX_AUTOCORRELATION)
    return coefficients
