r"""What a forecast rests on: other channels, the members of the adapter, known covariates."""

from __future__ import annotations

__all__ = ["MOST_SOURCES", "Explanation", "explain", "held_back_windows", "windows_of"]

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .adapters import AdapterModule, Ensemble, Portfolio
from .copulas.selection import mean_pinball
from .data.item import Item
from .data.panel import Panel
from .data.splits import Split
from .data.windows import Windows, split_windows
from .distribution.quantile_function import QuantileFunction
from .errors import few, unknown
from .evaluation.tables import block_slices
from .fitting.fitted import Fitted
from .foundation.cache import cached_forecasts
from .prediction.predictor import Predictor
from .statistics.bootstrap import block_scheme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The maximum number of sources that are left out in turn, unless the caller names them.
MOST_SOURCES = 64
#: The maximum numbers of channels and sources in a plot, and of channels in the printed summary.
MOST_PLOTTED, MOST_PRINTED = 24, 8
#: The smallest increase of the loss that the printed summary mentions; it also exceeds two standard errors.
NOTABLE = 0.005

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True, repr=False)
class Explanation:
    r"""What the forecasts of an adapter rest on, as tidy frames; `print` gives a short summary.

    The *loss* is the mean pinball loss of the forecast over quantile levels, horizon steps of a block and windows. Its
    *increase* is relative: 0.1 is 10 %. It compares with the same forecast made as if a column had not been observed:
    its context is missing, and imputed from the other channels where `predict` would do so. A column that the others
    replace has no increase, even if it is used. `standard_error` is that of the increase over windows, with regard to
    their overlap; NaN if the windows span too little time. The column `lead_block` is "all", or a block of horizon
    steps such as "1-6", the blocks of the gate. A channel without any loss or observed target has NaN.

    Arguments:
        family: The name of the family.
        windows: The number of windows.
        first: The first target row of the windows, as a date or number.
        last: The last target row.
        channels: Which channels inform which: channel, source, lead_block, loss_increase, standard_error. A source is a
            target or a past covariate. Where source and channel are the same, the zero-shot forecast also misses the
            context.
        weights: The weights of sources in the adapter's part of the forecast: member, channel, source, lead_block,
            weight, averaged over windows. They sum to 1 over all sources, or are 0 for a channel without correction.
            For `attention` the rollout over layers, heads averaged, the same for all leads; for `residual` the share in
            the absolute correction; for `linear` and `projection` that in encoding followed by decoding. Empty for
            other families.
        members: The members of a portfolio or ensemble: member, weight, gain. The gain is the relative reduction of the
            quantile loss by a member alone, against the frozen model, where the weights were selected; NaN if unknown.
            Other families are their only member.
        gate: The mean weight of the adapter against the frozen model: channel, lead_block, weight; 1 without a gate.
            Empty for `identity`.
        covariates: What known covariates contribute: channel, covariate, lead_block, kind, slope, contribution,
            loss_increase, standard_error. The kind of the effect subtracted before the adapter is "slope", "slope by
            item" where static columns change it, "ratio" (see `adapts.covariate_effect.KnownEffect`) or "none". The
            slope is in units of the channel per unit of the covariate, for static columns at their means and without a
            category; NaN for a ratio. The contribution is the mean absolute difference of the median if the covariate
            counts as its mean, in the channel's units.
    """

    family: str
    windows: int
    first: str
    last: str
    channels: pd.DataFrame
    weights: pd.DataFrame
    members: pd.DataFrame
    gate: pd.DataFrame
    covariates: pd.DataFrame

    def __str__(self) -> str:
        names = list(dict.fromkeys(self.channels["channel"]))
        overall = self.channels.query("lead_block == 'all' and channel != source")
        lines = [f"{self.family} adapter on {self.windows} windows, targets {self.first} to {self.last}"]
        lines += self._members_and_gate()
        lines.append("loss increase without a source:")
        for name in names[:MOST_PRINTED]:
            found = _notable(overall[overall["channel"] == name], "source")
            lines.append(f"  {name}: {found or 'no source but its own past'}")
        if len(names) > MOST_PRINTED:
            lines.append(f"  and {len(names) - MOST_PRINTED} more channels")
        if len(self.covariates):
            lines.append("loss increase without a known covariate:")
            overall = self.covariates.query("lead_block == 'all'")
            used = [(name, _notable(overall[overall["channel"] == name], "covariate")) for name in names]
            lines += [f"  {name}: {text}" for name, text in used if text][:MOST_PRINTED] or ["  none"]
        return "\n".join(lines)

    __repr__ = __str__

    def _members_and_gate(self) -> list[str]:
        if not len(self.gate):
            return ["no adapter: the frozen model forecasts each channel from its own past"]
        weight = float(self.gate.query("lead_block == 'all'")["weight"].mean())
        closed = ": the forecast is that of the frozen model" if weight == 0 else ""
        lines = [f"mean weight of the adapter against the frozen model: {weight:.2f}{closed}"]
        if len(self.members) > 1:
            pairs = zip(self.members["member"], self.members["weight"], strict=True)
            lines.append(f"members: {few((f'{share:.2f} {name}' for name, share in pairs), 17)}")
        return lines

    def plot(self) -> Figure:
        r"""Draw the loss increase over all leads: one row per channel, one column per source.

        Returns:
            The figure; no window opens. The diagonal is left out. It shows the first 24 channels, and the 24 sources
            with the largest increase in any of these.
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import PercentFormatter

        overall = self.channels.query("lead_block == 'all'")
        names = list(dict.fromkeys(overall["channel"]))[:MOST_PLOTTED]
        sources = list(dict.fromkeys(overall["source"]))
        table = overall.pivot(index="channel", columns="source", values="loss_increase").loc[names, sources]
        table = table.mask(np.equal.outer(np.array(names, object), np.array(sources, object)))
        largest = table.max().sort_values(ascending=False, kind="stable").index[:MOST_PLOTTED]
        table = table[[source for source in sources if source in set(largest)]]
        rows, columns = table.shape
        figure = Figure(figsize=(2.8 + 0.42 * columns, 1.6 + 0.34 * rows), layout="constrained", dpi=130)
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        axes.set_facecolor("#dddddd")
        top = max(NOTABLE, np.nanmax([0.0, *table.max()]))
        image = axes.imshow(table.to_numpy(float), cmap="Blues", vmin=0.0, vmax=top, aspect="auto")
        axes.set_xticks(range(columns), table.columns, rotation=45, ha="right", fontsize=8, parse_math=False)
        axes.set_yticks(range(rows), table.index, fontsize=8, parse_math=False)
        axes.set(xlabel="source left out", ylabel="channel")
        figure.colorbar(image, ax=axes, format=PercentFormatter(1.0)).set_label("loss increase", fontsize=8)
        return figure


def _notable(rows: pd.DataFrame, column: str) -> str:
    r"""Return the three rows with the largest significant increases, as text."""
    found = rows[~(rows["loss_increase"] < np.maximum(NOTABLE, 2 * rows["standard_error"].fillna(0.0)))]
    found = found.dropna(subset="loss_increase").sort_values("loss_increase", ascending=False)
    return few((f"{name} {100 * x:+.1f} %" for name, x in zip(found[column], found["loss_increase"], strict=True)), 3)


# ---------------------------------------------------------------------- windows


def held_back_windows(fitted: Fitted, most: int) -> Windows:
    r"""Return windows of the fitted panel outside of the train rows, at most so many, evenly spaced.

    Arguments:
        fitted: The fit.
        most: The maximum number of windows.

    Returns:
        The windows, whose targets are rows of `Fitted.held_back`.

    Raises:
        ValueError: If there are none.
    """
    ranges = [(start, len(item)) for start, item in zip(fitted.held_back, fitted.panel.items, strict=True)]
    windows = _windows(fitted, fitted.panel, ranges, most)
    if not len(windows):
        raise ValueError(
            f"explain needs windows of {fitted.copula.prediction_length} target steps after the train rows, and the "
            "fitted series hold none: pass series with later rows, explain(series)"
        )
    return windows


def windows_of(fitted: Fitted, panel: Panel, most: int) -> Windows:
    r"""Return windows of any rows of a panel, at most so many, evenly spaced.

    Arguments:
        fitted: The fit.
        panel: The panel, with the columns of the fit.
        most: The maximum number of windows.

    Returns:
        The windows.

    Raises:
        ValueError: If there are none.
    """
    windows = _windows(fitted, panel, [(0, len(item)) for item in panel.items], most)
    if not len(windows):
        horizon = fitted.copula.prediction_length
        raise ValueError(
            f"explain needs series of at least {2 * horizon} rows, {horizon} steps of context and as many of observed "
            f"targets, got at most {max(panel.lengths)} rows: pass longer series"
        )
    return windows


def _windows(fitted: Fitted, panel: Panel, ranges: Sequence[tuple[int, int]], most: int) -> Windows:
    r"""Return windows with their targets in ranges of rows, of a panel without the rows that none of them reads."""
    length = fitted.context_length
    windows = split_windows(
        panel.select(panel.targets), Split("explained", tuple(ranges)), context_length=length,
        prediction_length=fitted.copula.prediction_length, max_windows=most,
    )  # fmt: skip
    if not len(windows):
        return windows
    numbers, item = np.unique(windows.item, return_inverse=True)
    first = [max(0, int(windows.origin[item == number].min()) - length) for number in range(len(numbers))]
    kept = [panel.items[number] for number in numbers]
    items = (Item(i.item_id, i.values[start:], i.index[start:]) for i, start in zip(kept, first, strict=True))
    origin = windows.origin - np.array(first)[item]
    return replace(windows, panel=replace(panel, items=tuple(items)), item=item, origin=origin)


# ---------------------------------------------------------------------- the frames


def explain(predictor: Predictor, windows: Windows, sources: Sequence[str] | None = None) -> Explanation:
    r"""Explain the forecasts of windows.

    The cost is one pass of the frozen model over the windows and, for each source, one over its series alone, where the
    family keeps the observed channels; otherwise one over all latent channels. The adapter decodes once per source.

    Arguments:
        predictor: The predictor of the fit.
        windows: The windows, of a panel in the caller's units.
        sources: The targets and past covariates to leave out in turn; if None, all, or of more than 64 those with the
            largest weights, the first ones for families without weights.

    Returns:
        The explanation.

    Raises:
        ValueError: If a source is no such column.
    """
    fitted = predictor.fitted
    panel = fitted.panel
    names = [*panel.targets, *panel.past_covariates]
    for name in sources or ():
        if name not in names:
            raise ValueError(unknown("channel or past covariate", name, names))
    with cached_forecasts():
        members = _members(fitted)
        weights = _weights(predictor, windows, members)
        chosen = _chosen(names, sources, [tensor for _, tensor in weights])
        losses = _Losses.of(predictor, windows)
        channels: Rows = []
        for name in chosen:
            increases = losses.increases(predictor.standardised_marginals(_without(windows, name)))
            channels += [(c, name, block, *x) for block, values in increases for c, x in _by(panel.targets, values)]
        covariates = _covariates(predictor, windows, losses)
    blocks, last = block_slices(windows.prediction_length), windows.prediction_length - 1
    index = [windows.panel.items[number].index for number in windows.item]
    ends = [(rows[at], rows[at + last]) for rows, at in zip(index, windows.origin, strict=True)]
    return Explanation(
        family=fitted.module.family,
        windows=len(windows),
        first=str(min(first for first, _ in ends)),
        last=str(max(last for _, last in ends)),
        channels=pd.DataFrame(channels, columns=["channel", "source", "lead_block", "loss_increase", "standard_error"]),
        weights=_weights_frame(weights, panel.targets, names, chosen, blocks),
        members=pd.DataFrame([(m.name, m.weight, m.gain) for m in members], columns=["member", "weight", "gain"]),
        gate=_gate_frame(fitted, blocks),
        covariates=covariates,
    )


@dataclass(frozen=True)
class _Member:
    r"""One member of an adapter, with its weight and gain; the frozen model has no module."""

    name: str
    weight: float
    gain: float
    module: AdapterModule | None


def _members(fitted: Fitted) -> list[_Member]:
    r"""Return the members of a portfolio or an ensemble, or the adapter itself."""
    module = fitted.module
    if not isinstance(module, Portfolio | Ensemble):
        return [_Member(module.family, 1.0, float("nan"), module)]
    families = [member.label for member in module.built_members]
    counts: dict[str, int] = {}
    names = []
    for family in families:
        counts[family] = counts.get(family, 0) + 1
        names.append(f"{family} {counts[family]}" if families.count(family) > 1 else family)
    nan = float("nan")
    if isinstance(module, Ensemble):
        return [_Member(n, 1 / len(names), nan, m) for n, m in zip(names, module.built_members, strict=True)]
    decision = fitted.decisions.get("weights", fitted.decisions.get("train"))
    figures = {} if decision is None else decision.figures
    gains = [figures.get(f"gain of member {number}", nan) for number in range(len(names))]
    rows = zip(names, module.weights[1:].tolist(), gains, module.built_members, strict=True)
    return [_Member("frozen model", float(module.weights[0]), 0.0, None), *(_Member(*row) for row in rows)]


def _weights(predictor: Predictor, windows: Windows, members: Sequence[_Member]) -> list[tuple[str, Tensor]]:
    r"""Return the weights of sources (H or 1, D, D) of each member that tells them and counts in the forecast."""
    standard, marginals = predictor.standardiser.standardised(windows), predictor.marginals
    frozen = marginals.zero_shot(standard)
    found = []
    for member in members:
        if member.module is not None and member.weight > 0:
            weights = replace(marginals, module=member.module).source_weights(standard, frozen)
            if weights is not None:
                found.append((member.name, weights))
    return found


def _chosen(names: Sequence[str], sources: Sequence[str] | None, weights: Sequence[Tensor]) -> list[str]:
    r"""Return the sources to leave out, in the order of the columns."""
    if sources is not None:
        return [name for name in names if name in sources]
    if len(names) <= MOST_SOURCES or not weights:
        return list(names[:MOST_SOURCES])
    total = torch.stack([tensor.mean((0, 1)) for tensor in weights]).mean(0)  # (D,)
    return [names[number] for number in sorted(total.topk(MOST_SOURCES).indices.tolist())]


def _without(windows: Windows, name: str) -> Windows:
    r"""Return the windows of a panel in which a column is not observed."""
    panel = windows.panel
    hidden = np.array(panel.channels) == name
    items = tuple(replace(item, values=np.where(hidden, np.nan, item.values)) for item in panel.items)
    return replace(windows, panel=replace(panel, items=items))


@dataclass(frozen=True)
class _Losses:
    r"""The forecasts of windows, and their losses, with shape (n, H, D)."""

    windows: Windows
    marginals: QuantileFunction
    truth: Tensor
    values: Tensor

    @classmethod
    def of(cls, predictor: Predictor, windows: Windows) -> _Losses:
        r"""Compute the losses with all columns."""
        marginals = predictor.standardised_marginals(windows)
        truth = predictor.marginals.truth(predictor.standardiser.standardised(windows))
        return cls(windows, marginals, truth, mean_pinball(marginals, truth).double())

    def increases(self, marginals: QuantileFunction) -> list[tuple[str, list[Tensor]]]:
        r"""Return the relative increase (D,) and its standard error (D,) by other forecasts, for each block."""
        change = mean_pinball(marginals, self.truth).double() - self.values
        scheme = block_scheme(self.windows.time, self.windows.prediction_length)
        found = []
        for block, leads in block_slices(self.windows.prediction_length):
            unit = self.values[:, leads].nanmean((0, 1))
            unit = torch.where(unit > 0, unit, torch.nan)
            relative = change[:, leads].nanmean(1) / unit  # (n, D)
            error = torch.full_like(unit, torch.nan)
            if scheme is not None:
                error = scheme.errors(relative).square().mean(0).sqrt()
            found.append((block, [change[:, leads].nanmean((0, 1)) / unit, error]))
        return found


def _covariates(predictor: Predictor, windows: Windows, losses: _Losses) -> pd.DataFrame:
    r"""Return what known covariates contribute to each target, by block."""
    fitted = predictor.fitted
    panel, effect, rows = fitted.panel, fitted.effect, []
    scale = fitted.scale[: len(panel.targets)]
    names = [name for name in panel.known_covariates if name not in panel.static_columns]
    median = losses.marginals.at(torch.tensor([0.5]))[..., 0]
    for number, name in enumerate(names):
        assert effect is not None
        slope = effect.weights[number] * scale / effect.scale[number]
        divides = effect.divisor == number
        by_item = effect.weights.reshape(-1, len(names), len(divides))[1:, number].any(0)
        kinds = np.where(by_item, "slope by item", np.where(effect.uses[number], "slope", "none"))
        kinds = np.where(divides, "ratio", kinds)
        marginals = predictor.standardised_marginals(_without(windows, name))
        change = (marginals.at(torch.tensor([0.5]))[..., 0] - median).abs().double() * torch.from_numpy(scale)
        blocks = dict(block_slices(windows.prediction_length))
        for block, (increase, error) in losses.increases(marginals):
            parts = [torch.from_numpy(np.where(divides, np.nan, slope)), change[:, blocks[block]].mean((0, 1))]
            values = _by(panel.targets, [*parts, increase, error])
            rows += [(c, name, block, kind, *x) for kind, (c, x) in zip(kinds.tolist(), values, strict=True)]
    columns = ["channel", "covariate", "lead_block", "kind", "slope", "contribution", "loss_increase", "standard_error"]
    return pd.DataFrame(rows, columns=columns)


def _gate_frame(fitted: Fitted, blocks: Sequence[tuple[str, slice]]) -> pd.DataFrame:
    r"""Return the mean weight of the adapter against the frozen model, by block."""
    shape, rows = (fitted.copula.prediction_length, len(fitted.panel.targets)), []
    gate = torch.ones(shape, dtype=torch.float32) if fitted.gate is None else fitted.gate
    if fitted.module.family != "identity":
        for block, leads in blocks:
            rows += [(channel, block, x) for channel, (x,) in _by(fitted.panel.targets, [gate[leads].mean(0)])]
    return pd.DataFrame(rows, columns=["channel", "lead_block", "weight"])


def _weights_frame(
    weights: Sequence[tuple[str, Tensor]],
    targets: Sequence[str],
    names: Sequence[str],
    sources: Sequence[str],
    blocks: Sequence[tuple[str, slice]],
) -> pd.DataFrame:
    r"""Return the weights of sources as a tidy frame."""
    rows: Rows = []
    columns = [(number, name) for number, name in enumerate(names) if name in sources]
    for member, tensor in weights:
        for block, leads in blocks if len(tensor) > 1 else [("all", slice(None))]:
            mean = tensor[leads].mean(0).tolist()
            rows += [(member, c, name, block, mean[d][s]) for d, c in enumerate(targets) for s, name in columns]
    return pd.DataFrame(rows, columns=["member", "channel", "source", "lead_block", "weight"])


def _by(channels: Sequence[str], values: Sequence[Tensor]) -> list[tuple[str, list[float]]]:
    r"""Return the values of each channel, of tensors (D,)."""
    return list(zip(channels, torch.stack([x.double() for x in values]).mT.tolist(), strict=True))
