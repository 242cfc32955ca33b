r"""What known covariates explain of the targets."""

from __future__ import annotations

__all__ = ["KnownEffect", "foreseen", "generalised_slopes", "slopes", "within_items"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .data.panel import Panel
from .data.scaling import ROUNDING, location_scale
from .imputation.interpolation import short_gaps
from .persistence.tensors import require_names, taken
from .statistics.ridge import RidgePath, cross_validated_error

#: Ridge strengths, relative to the mean eigenvalue of the regressors.
STRENGTHS = torch.logspace(-5, 3, 17, dtype=torch.float64)
#: The most that errors of one lead are taken to pass on to the next: of those that pass on all no mean is left.
MOST_PERSISTENT = 0.98
#: The share of a covariate that the frozen model must miss at least, for what it misses of it to tell a slope.
UNFORESEEN = 0.01
#: How many windows at the mean over all items an item's own mean is drawn towards it by.
ITEM_WINDOWS = 5
#: What is added to a covariate that divides, as a share of its mean.
FLOOR = 0.2
_TENSORS = ("location", "scale", "weights", "divisor")


@dataclass(frozen=True)
class KnownEffect:
    r"""What known covariates explain of the targets: it is taken out before all else and put back after.

    .. math:: r_t = \frac{y_t - B^\top c_t}{m_t}, \qquad F_y(u) = F_r \Bigl( \frac{u - B^\top c}{m} \Bigr), \qquad
        m_t = \frac{c_{jt} + \delta}{\bar c_j + \delta}

    A target has either slopes or a divisor, the :math:`j`-th covariate, whose floor :math:`\delta` is a fifth of its
    mean: what is divided by next to nothing would be noise. Where a covariate that a target reads is missing in a short
    gap, :math:`r` is missing; in longer ones the covariate counts as its mean. Static columns let the slopes differ by
    item: their products with the covariates stand in :math:`c_t` too.

    Arguments:
        names: The :math:`C` known covariates that change, the calendar last.
        static: The :math:`S` static columns.
        location: The means of both, with shape :math:`(C + S,)`: over the train rows, of static numbers over the items,
            and 0 of indicators.
        scale: Their standard deviations over the same, 1 where constant and of indicators, with shape :math:`(C + S,)`.
        weights: The matrix :math:`B` between standardised covariates and standardised targets, with shape
            :math:`(C, D)`, or :math:`(C (1 + S), D)` where static columns are used.
        divisor: The number of the covariate that divides each target, -1 for none, with shape :math:`(D,)`.
    """

    names: tuple[str, ...]
    static: tuple[str, ...]
    location: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    divisor: np.ndarray

    @staticmethod
    def none(panel: Panel, rows: Callable[[Panel], np.ndarray]) -> KnownEffect:
        r"""Makes the effect that explains nothing.

        Arguments:
            panel: The panel of the fit.
            rows: Gives the train rows of a panel, with shape :math:`(n, C)`.

        Returns:
            The effect.
        """
        static = panel.static_columns
        names = tuple(name for name in panel.known_covariates if name not in static)
        location, scale = location_scale(rows(panel.select(names)))
        each = np.stack([item.values[0] for item in panel.select(static).items])  # an item once, however long
        middle, width = location_scale(each)
        numbers = np.array([name in panel.static for name in static], dtype=bool)
        location = np.concatenate([location, np.where(numbers, middle, 0.0)])
        scale = np.concatenate([scale, np.where(numbers, width, 1.0)])
        targets = len(panel.targets)
        return KnownEffect(names, static, location, scale, np.zeros((len(names), targets)), np.full(targets, -1))

    def with_slopes(self, weights: np.ndarray, divisor: np.ndarray) -> KnownEffect:
        r"""The effect with other slopes and divisors; without static columns where the slopes are without products.

        Arguments:
            weights: As for the class.
            divisor: As for the class.

        Returns:
            The effect.
        """
        effect = replace(self, weights=weights, divisor=divisor)
        if effect.tells_apart:
            return effect
        count = len(self.names)
        return replace(effect, static=(), location=self.location[:count], scale=self.scale[:count])

    @property
    def divides(self) -> bool:
        r"""Whether any target is divided."""
        return bool((self.divisor >= 0).any())

    @property
    def tells_apart(self) -> bool:
        r"""Whether static columns are used."""
        return len(self.weights) > len(self.names)

    @property
    def used(self) -> bool:
        r"""Whether anything is explained."""
        return self.divides or bool(self.weights.any())

    @property
    def reads(self) -> np.ndarray:
        r"""Which covariates each target reads, with shape :math:`(C, D)`."""
        reads = np.asarray(self.weights.reshape(-1, len(self.names), self.weights.shape[1]).any(0))
        divided = self.divisor >= 0
        reads[self.divisor[divided], divided] = True
        return reads

    def standardised(self, panel: Panel) -> Panel:
        r"""The known covariates of a panel in units of the train rows, 0 where they are missing.

        Arguments:
            panel: A panel with all columns.

        Returns:
            The panel of these columns, those that change and behind them the static ones.
        """
        known = panel.select((*self.names, *self.static)).standardised(self.location, self.scale)
        return replace(known, items=tuple(replace(i, values=np.nan_to_num(i.values, nan=0.0)) for i in known.items))

    def crossed(self, known: Tensor) -> Tensor:
        r"""The products of covariates with static columns behind the covariates themselves.

        Arguments:
            known: Standardised covariates and static columns, with shape :math:`(*, C + S)`.

        Returns:
            The covariates and, static column by static column, the products, with shape :math:`(*, C (1 + S))`.
        """
        if not self.static:
            return known
        moving, kind = known.split([len(self.names), len(self.static)], -1)
        return torch.cat([moving, (kind.unsqueeze(-1) * moving.unsqueeze(-2)).flatten(-2)], -1)

    def ratio(self, known: Tensor) -> Tensor:
        r"""The divisors :math:`m` that covariates would be.

        Arguments:
            known: Standardised covariates, with shape :math:`(*, C)`; static columns behind them are not looked at.

        Returns:
            The divisors, with shape :math:`(*, C)`; 1 at the mean.
        """
        count = len(self.names)
        known = known[..., :count]
        location, scale = (torch.from_numpy(unit[:count]).to(known) for unit in (self.location, self.scale))
        floor = FLOOR * location
        return ((location + scale * known).clamp(min=0) + floor) / (location + floor)

    def maps(self, panel: Panel, targets: tuple[str, ...], offset: np.ndarray) -> tuple[Panel, Panel]:
        r"""What is taken off each row, and what the rest is divided by, in units of the train rows.

        Arguments:
            panel: A panel with all columns.
            targets: The names of the targets.
            offset: The targets' means in units of their standard deviations, with shape :math:`(D,)`: division is by
                the distance from zero, not from the mean.

        Returns:
            Two panels of the targets' columns.
        """
        shifts, factors = [], []
        for item in self.standardised(panel).items:
            factor = np.ones((len(item), len(targets)))
            if self.divides:
                divided = self.divisor >= 0
                factor[:, divided] = self.ratio(torch.from_numpy(item.values)).numpy()[:, self.divisor[divided]]
            known = self.crossed(torch.from_numpy(item.values)).numpy()
            # Column by column: a product of matrices rounds by where they lie in memory.
            effect = (known[:, :, None] * self.weights).sum(1)
            shifts.append(replace(item, values=effect + (factor - 1) * offset))
            factors.append(replace(item, values=factor))
        return tuple(  # type: ignore[return-value]
            Panel(tuple(items), targets, panel.frequency, panel.single, panel.item_column)
            for items in (shifts, factors)
        )

    def unknown(self, panel: Panel) -> list[np.ndarray]:
        r"""Tells of which cells the effect is unknown: a covariate that the target reads is missing for a short while.

        Arguments:
            panel: A panel with all columns.

        Returns:
            For each item which of its rows and targets these are, with shape :math:`(T, D)`; gaps as of
            `adapts.imputation.interpolation.short_gaps` count.
        """
        reads, found = self.reads, []
        for item in panel.select(self.names).items:
            short = short_gaps(torch.from_numpy(item.values.T))  # (C, T)
            found.append(short.numpy().T.astype(float) @ reads > 0)
        return found

    def state(self) -> dict[str, Tensor]:
        r"""What the effect is made of, beside the names.

        Returns:
            Tensors only.
        """
        return {name: torch.from_numpy(getattr(self, name)) for name in _TENSORS}

    @staticmethod
    def from_state(panel: Panel, state: Mapping[str, Tensor]) -> KnownEffect:
        r"""Makes an effect again from its `state()`.

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
        whole, targets = len(names) + len(panel.static_columns), len(panel.targets)
        # Static columns are left aside where the slopes are without products.
        count = whole if len(state["location"].shape) == 1 and len(state["location"]) == whole else len(names)
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
    r"""Takes off each item's mean, so that levels of items are not taken for what covariates do.

    Arguments:
        values: The values of windows, with shape :math:`(n, H, C)`. NaN marks a missing step.
        item: The item of each window, with shape :math:`(n,)`.

    Returns:
        The values less the means of their items. These are drawn to the mean over all, as far as `ITEM_WINDOWS` windows
        at that mean draw them: a few windows hardly tell a level.
    """
    seen = ~values.isnan()
    number = item.unique(return_inverse=True)[1]
    shape = (int(number.max()) + 1 if len(number) else 0, values.shape[-1])
    count = torch.zeros(shape, dtype=torch.float64).index_add(0, number, seen.sum(1).double())
    total = torch.zeros(shape, dtype=torch.float64).index_add(0, number, values.nan_to_num(0.0).sum(1).double())
    mean = total.sum(0) / count.sum(0).clamp(min=1)
    weight = ITEM_WINDOWS * values.shape[1]
    return values - ((total + weight * mean) / (count + weight))[number].unsqueeze(1).to(values)


def foreseen(above: Tensor, missed: Tensor) -> Tensor:
    r"""Tells which covariates the frozen model foresees, so that its errors tell of itself and not of them.

    Arguments:
        above: The covariates as distances from the context's mean, with shape :math:`(n, H, C)`.
        missed: The same as distances from what the frozen model foresees, with shape :math:`(m, H, C)`.

    Returns:
        Whether the squares of the latter are less than `UNFORESEEN` of those of the former, with shape :math:`(C,)`.
    """
    whole, rest = (values.double().square().mean((0, 1)) for values in (above, missed))
    return rest <= UNFORESEEN * whole


def slopes(x: Tensor, y: Tensor, fold: Tensor, folds: int) -> Tensor:
    r"""Ridge coefficients of each target on covariates, with each fold left out and with all of them.

    The regression has an intercept, which is neither shrunk nor returned: the covariates need not be centred, nor the
    targets. A target's strength has the least error left out; where no strength beats zero, its coefficients are zero.

    Arguments:
        x: The covariates, with shape :math:`(n, H, C)`.
        y: The targets, with shape :math:`(n, H, D)`. NaN marks a missing step.
        fold: Each window's block of time, with shape :math:`(n,)`; -1 marks those that are in none.
        folds: The number of blocks :math:`F`.

    Returns:
        The coefficients, with shape :math:`(F + 1, C, D)`: first those without each of the :math:`F` folds.
    """
    return _solved(x, y, fold, folds, 1)


def generalised_slopes(x: Tensor, y: Tensor, fold: Tensor, folds: int) -> Tensor:
    r"""Ridge coefficients as `slopes` has them, of errors that hang together from lead to lead.

    These are taken for an autoregression of first order, whose coefficient the errors of `slopes` tell (feasible
    generalised least squares). What a target that wanders misses at one lead it misses at the next: such errors count
    once, which makes the coefficients far surer.

    References:
        | Trend Estimators and Serial Correlation (Prais & Winsten, 1954)

    Arguments:
        x: The covariates, with shape :math:`(n, H, C)`.
        y: The targets, with shape :math:`(n, H, D)`. NaN marks a missing step.
        fold: Each window's block of time, with shape :math:`(n,)`; -1 marks those that are in none.
        folds: The number of blocks :math:`F`.

    Returns:
        The coefficients, with shape :math:`(F + 1, C, D)`: first those without each of the :math:`F` folds.
    """
    return _solved(x, y, fold, folds, 2)


def _solved(x: Tensor, y: Tensor, fold: Tensor, folds: int, passes: int) -> Tensor:
    used = [(fold == one).nonzero().flatten() for one in range(folds)]
    found = torch.zeros(folds + 1, x.shape[-1], y.shape[-1], dtype=torch.float64)
    regressors = [torch.cat([torch.ones_like(x[rows, :, :1]), x[rows]], -1).double() for rows in used]  # and a constant

    def moments(left: list[Tensor], right: list[Tensor], seen: list[Tensor]) -> Tensor:
        return torch.stack([_moments(*each) for each in zip(left, right, seen, strict=True)])  # (F, 4, p, q)

    whole = moments(regressors, regressors, [torch.ones_like(each[..., 0], dtype=torch.bool) for each in regressors])
    for target in range(y.shape[-1]):
        outcomes = [y[rows, :, target, None].double() for rows in used]
        seen = [~each[..., 0].isnan() for each in outcomes]
        complete = all(bool(each.all()) for each in seen)
        gram = whole if complete else moments(regressors, regressors, seen)
        cross, square = moments(regressors, outcomes, seen), moments(outcomes, outcomes, seen)
        joint = torch.cat([torch.cat([gram, cross], -1), torch.cat([cross.mT, square], -1)], -2)
        for left_out in range(folds + 1):  # strength and autoregression, too, are chosen without the fold
            found[left_out, :, target] = _ridge(joint[[one for one in range(folds) if one != left_out]], passes)
    return found


def _moments(x: Tensor, y: Tensor, seen: Tensor) -> Tensor:
    r"""Sums of products of steps, neighbours both ways, steps before others and steps that follow none: (4, p, q)."""
    follows, precedes = torch.zeros_like(seen), torch.zeros_like(seen)
    follows[:, 1:] = precedes[:, :-1] = seen[:, 1:] & seen[:, :-1]
    first = seen & ~follows
    neighbours = x[follows].mT @ y[precedes] + x[precedes].mT @ y[follows]
    rest = (x[which].mT @ y[which] for which in (precedes, first))
    return torch.stack([x[seen].mT @ y[seen], neighbours, *rest])


def _ridge(moments: Tensor, passes: int) -> Tensor:
    r"""The ridge coefficients (C,) at the strength of the least error left out of folds; 0 where none beats zero."""
    # The moments (F, 4, C + 2, C + 2) are of the constant, the covariates and the target.
    persistence = torch.zeros((), dtype=torch.float64)
    unit = torch.eye(moments.shape[-1], dtype=moments.dtype)
    for _ in range(passes):  # the errors of the first solution tell how the second weighs the steps
        steps, neighbours, before, first = moments.unbind(1)
        white = steps - persistence * neighbours + persistence.square() * (before - first)
        mean = white.sum(0)[0] / white.sum(0)[0, 0].clamp(min=1e-12)
        centring = unit - torch.outer(mean, unit[0])  # takes the means off the rest; nothing is left of the constant
        centred = centring @ white @ centring.mT
        varies = (
            centred.sum(0).diagonal() > ROUNDING * white.sum(0).diagonal()
        )  # of others nothing but rounding is left
        white = (centred * torch.outer(varies, varies))[:, 1:, 1:]
        gram, cross, square = white[:, :-1, :-1], white[:, :-1, -1:], white[:, -1, -1:]
        typical = gram.sum(0).diagonal().mean().clamp(min=1e-12)
        errors = cross_validated_error(gram, cross, square, STRENGTHS * typical)[:, 0]
        least = int(errors.argmin())
        found = RidgePath(gram.sum(0), cross.sum(0)).solve(STRENGTHS[least] * typical)[:, 0]
        found = torch.where(varies[1:-1] & (errors[least] < square.sum()), found, 0.0)
        error = centring.mT @ torch.cat([found.new_zeros(1), -found, found.new_ones(1)])  # what is made of the columns
        products, earlier = (error @ of.sum(0) @ error for of in (neighbours, before))
        persistence = (products / 2 / earlier.clamp(min=1e-12)).clamp(0, MOST_PERSISTENT)
    return found
