r"""Trains bolt-nano, a small Chronos-Bolt model, from scratch on the synthetic prior.

The network is the stock `ChronosBoltModelForForecasting`; what trains it is a lean forward pass over the same
parameters (guarded norm, loss in units of the context's scale). Half of the windows are chosen of three, as the one
that ends farthest from its mean: events are rare, and how they go on is what is asked in their midst. The learning rate
is constant and falls only at the end, so a run can be prolonged: copy its `last.pt` to a new folder and go on from
there, or begin with the weights of an exported model, whose steps then count and whose optimisers start afresh; a
deeper network grows from a shallower one. Runs that have ended and exported models can teach the next: a teacher's
deciles are less noisy than what came, the mean of two teachers' is better than either, and is learnt at no cost to who
forecasts.

    python -m pretraining.bolt_nano.pretrain run/ --steps 60000 --decay 12000
    python -m pretraining.bolt_nano.pretrain run/ --steps 60000 --decay 12000       # goes on where it was cut off
    python -m pretraining.bolt_nano.pretrain next/ --teacher run/ --steps 66000 --decay 5000 --rate 0.001
    python -m pretraining.bolt_nano.pretrain run/ --export adapts/foundation/bolt_nano
    python -m pretraining.bolt_nano.pretrain new/ --begin adapts/foundation/bolt_nano --steps 60000 --decay 5000
"""

from __future__ import annotations

__all__ = [
    "Muon",
    "Settings",
    "Trainer",
    "build_model",
    "ends_apart",
    "export",
    "quantile_loss",
    "scaled_quantiles",
    "taught_quantiles",
]

import argparse
import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapts.foundation import device_named
from pretraining.bolt_nano.prior import KINDS, VERSION, Dice, draw_series, draw_windows

ARCHITECTURE: dict[str, Any] = {
    "d_model": 160,
    "d_kv": 32,
    "d_ff": 512,
    "num_layers": 6,
    "num_decoder_layers": 4,
    "num_heads": 5,
    # every distance between two of the 22 tokens has a bucket of its own: a season is copied from an exact lag
    "relative_attention_num_buckets": 64,
    "relative_attention_max_distance": 32,
}
DEPTHS = ("num_layers", "num_decoder_layers")
CONTEXT, HORIZON, PATCH = 504, 96, 24
LEVELS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def build_model(seed: int = 0, **architecture: Any) -> Any:
    r"""Builds a randomly initialised Chronos-Bolt model.

    Arguments:
        seed: The seed of the initial weights.
        architecture: Fields of `T5Config` that replace those of `ARCHITECTURE`.

    Returns:
        The model, in float32 on the CPU.
    """
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from transformers import T5Config

    torch.manual_seed(seed)
    config_class: Any = T5Config  # its fields are not its type's: Chronos adds its own
    config = config_class(
        **{**ARCHITECTURE, **architecture},
        dropout_rate=0.0,
        feed_forward_proj="relu",
        initializer_factor=1.0,
        vocab_size=2,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        is_encoder_decoder=True,
        architectures=["ChronosBoltModelForForecasting"],
        chronos_pipeline_class="ChronosBoltPipeline",
        chronos_config={
            "context_length": CONTEXT,
            "prediction_length": HORIZON,
            "input_patch_size": PATCH,
            "input_patch_stride": PATCH,
            "quantiles": LEVELS,
            "use_reg_token": True,
        },
    )
    model = ChronosBoltModelForForecasting(config)
    for block in (model.input_patch_embedding, model.output_patch_embedding):
        for layer in (block.hidden_layer, block.residual_layer, block.output_layer):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
    # the first forecast: the context's mean, with the deciles of a standard normal
    spread = torch.special.ndtri(torch.tensor(LEVELS)).repeat_interleave(HORIZON)
    with torch.no_grad():
        model.output_patch_embedding.output_layer.weight.mul_(0.1)
        model.output_patch_embedding.residual_layer.weight.mul_(0.1)
        model.output_patch_embedding.output_layer.bias.copy_(spread)
    return model


def _residual_block(block: Any, x: Tensor) -> Any:
    return block.output_layer(F.relu(block.hidden_layer(x))) + block.residual_layer(x)


def _rms_norm(norm: Any, x: Tensor) -> Any:
    y = x.float()
    y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + norm.variance_epsilon)
    return (norm.weight * y).to(x.dtype)


def _attention(layer: Any, x: Tensor, memory: Tensor, bias: Tensor) -> Any:
    q, k, v = (
        f(y).unflatten(-1, (layer.n_heads, layer.key_value_proj_dim)).transpose(1, 2)
        for f, y in ((layer.q, x), (layer.k, memory), (layer.v, memory))
    )  # (B, heads, tokens, d_kv)
    weights = (q @ k.mT + bias).float().softmax(-1).to(v.dtype)
    return layer.o((weights @ v).transpose(1, 2).flatten(2))


def _feed_forward(layer: Any, x: Tensor) -> Any:
    dense = layer.DenseReluDense
    return x + dense.wo(F.relu(dense.wi(_rms_norm(layer.layer_norm, x))))


def scaled_quantiles(model: Any, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Forecasts in units of the context's own location and scale; the stock forward pass, written to compile.

    Arguments:
        model: The Chronos-Bolt model.
        context: The past, with shape :math:`(B, L)`, :math:`L` a multiple of the patch. NaN marks a missing step.

    Returns:
        The quantiles :math:`(B, Q, H)` before they are scaled back, and location and scale, :math:`(B, 1)` each.
    """
    seen = ~context.isnan()
    x = torch.where(seen, context, 0.0)
    count = seen.sum(-1, keepdim=True).clamp(min=1)
    location = x.sum(-1, keepdim=True) / count
    x = torch.where(seen, x - location, 0.0)
    scale = (x.square().sum(-1, keepdim=True) / count).sqrt()
    scale = torch.where(scale > 0, scale, 1e-5)
    patches = torch.cat([(x / scale).unflatten(-1, (-1, PATCH)), seen.float().unflatten(-1, (-1, PATCH))], dim=-1)
    tokens = _residual_block(model.input_patch_embedding, patches)  # (B, 21, d_model)
    register = model.shared.weight[1].to(tokens.dtype).expand(len(tokens), 1, -1)
    tokens = torch.cat([tokens, register], dim=1)
    held = F.pad(seen.unflatten(-1, (-1, PATCH)).any(-1), (0, 1), value=True)
    mask = torch.where(held, 0.0, -1e4)[:, None, None, :]  # (B, 1, 1, tokens)

    encoder, decoder = model.encoder, model.decoder
    length = tokens.shape[1]
    bias = encoder.block[0].layer[0].SelfAttention.compute_bias(length, length) + mask
    for block in encoder.block:
        attention, feed_forward = block.layer
        normed = _rms_norm(attention.layer_norm, tokens)
        tokens = tokens + _attention(attention.SelfAttention, normed, normed, bias)
        tokens = _feed_forward(feed_forward, tokens)
    memory = _rms_norm(encoder.final_layer_norm, tokens)

    y = model.shared.weight[0].to(tokens.dtype).expand(len(tokens), 1, -1)
    for block in decoder.block:
        itself, cross, feed_forward = block.layer
        # one token attends to itself alone: its weight is 1, whatever query and key say
        y = y + itself.SelfAttention.o(itself.SelfAttention.v(_rms_norm(itself.layer_norm, y)))
        y = y + _attention(cross.EncDecAttention, _rms_norm(cross.layer_norm, y), memory, mask)
        y = _feed_forward(feed_forward, y)
    y = _rms_norm(decoder.final_layer_norm, y)
    y = _residual_block(model.output_patch_embedding, y)
    return y.float().view(len(context), len(LEVELS), HORIZON), location, scale


def taught_quantiles(teachers: Sequence[Any], context: Tensor) -> Tensor:
    r"""Returns the mean of what teachers forecast.

    Arguments:
        teachers: Chronos-Bolt models, at least one.
        context: As for `scaled_quantiles`.

    Returns:
        The quantiles :math:`(B, Q, H)` in units of the context's location and scale, sorted.
    """
    return torch.stack([scaled_quantiles(teacher, context)[0].sort(1).values for teacher in teachers]).mean(0)


def quantile_loss(
    model: Any,
    context: Tensor,
    target: Tensor,
    taught: Tensor | None = None,
    teaching: float = 0.0,
    blur: float = 0.0,
) -> Tensor:
    r"""Returns the mean of twice the pinball loss over deciles and observed steps, in units of the context's scale.

    Targets are clamped to ten scales: a series that leaves its context far behind would else rule the gradient.

    Arguments:
        model: The Chronos-Bolt model.
        context: The past, with shape :math:`(B, L)`.
        target: The future, with shape :math:`(B, H)`. NaN marks a missing step, which has no loss.
        taught: The teachers' quantiles, as `taught_quantiles` gives them.
        teaching: The share of the loss that the mean distance from these makes.
        blur: The standard deviation, in scales, of normal noise that the targets are taken to have: the loss is its
            expectation. Deciles of what stays as it is then stand apart, on both sides of it.

    Returns:
        The loss of each window, with shape :math:`(B,)`.
    """
    quantiles, location, scale = scaled_quantiles(model, context)
    seen = ~target.isnan()
    y = ((torch.where(seen, target, location) - location) / scale).clamp(-10, 10)
    error = y.unsqueeze(1) - quantiles  # (B, Q, H)
    levels = torch.tensor(LEVELS, device=error.device).view(1, -1, 1)
    loss: Tensor
    if blur:
        z = error / blur
        density = (-0.5 * z.square()).exp() / math.sqrt(2 * math.pi)
        loss = 2 * (error * (levels - torch.special.ndtr(-z)) + blur * density).mean(1)
    else:
        loss = 2 * torch.maximum(levels * error, (levels - 1) * error).mean(1)
    if taught is not None:
        apart = (taught.clamp(-10, 10) - quantiles).abs().mean(1)  # (B, H)
        loss = torch.lerp(loss, apart, teaching)
    return (loss * seen).sum(-1) / seen.sum(-1).clamp(min=1)


def _centred(context: Tensor) -> tuple[Tensor, Tensor]:
    r"""Returns the context less the mean of what was observed, 0 where nothing was, and how many steps were."""
    seen = ~context.isnan()
    return torch.where(seen, context - context.nanmean(-1, keepdim=True), 0.0), seen.sum(-1)


def ends_apart(context: Tensor) -> Tensor:
    r"""Returns how far the last observed value lies from the mean of those observed, in their standard deviations.

    Arguments:
        context: The past, with shape :math:`(*, L)`. NaN marks a missing step.

    Returns:
        The distance, with shape :math:`(*)`; 0 where nothing is observed or nothing moves.
    """
    centred, count = _centred(context)
    scale = (centred.square().sum(-1) / count.clamp(min=1)).sqrt()
    steps = torch.arange(context.shape[-1], device=context.device)
    last = torch.where(context.isnan(), 0, steps).amax(-1, keepdim=True)
    return torch.where(scale > 1e-4, centred.gather(-1, last).squeeze(-1).abs() / scale, 0.0)


class Muon(torch.optim.Optimizer):
    r"""Momentum whose update of a matrix is made orthogonal (Newton-Schulz), all matrices of a shape at once.

    Not for embeddings, vectors, or the first and last layer.

    References:
        | Muon: an optimizer for hidden layers (Jordan et al., 2024)
        | https://kellerjordan.github.io/posts/muon/

    Arguments:
        params: The matrices.
        lr: The learning rate; a tensor may be changed between the replays of a captured step.
        momentum: The weight of the past in the momentum.
        weight_decay: The decoupled weight decay.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: Tensor | float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        params = list(params)
        shapes = sorted({tuple(p.shape) for p in params})
        groups = [{"params": [p for p in params if tuple(p.shape) == shape]} for shape in shapes]
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        r"""Takes one step.

        Arguments:
            closure: Not used.
        """
        for group in self.param_groups:
            params: list[nn.Parameter] = group["params"]
            gradient = torch.stack([p.grad if p.grad is not None else torch.zeros_like(p) for p in params])
            state = self.state[params[0]]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(gradient)
            momentum: Tensor = state["momentum"]
            momentum.lerp_(gradient, 1 - group["momentum"])
            update = orthogonal(gradient.lerp(momentum, group["momentum"]))
            update = update * (0.2 * math.sqrt(max(params[0].shape)))  # the root mean square of an Adam update
            for p, u in zip(params, update.unbind(), strict=True):
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(u * group["lr"])


def orthogonal(x: Tensor) -> Tensor:
    r"""Returns about the nearest orthogonal matrices by five quintic Newton-Schulz steps.

    Arguments:
        x: The matrices, with shape :math:`(*, m, n)`.

    Returns:
        Matrices of the same shape whose singular values lie near 1.
    """
    y: Tensor = x.bfloat16()
    if wide := x.shape[-2] > x.shape[-1]:
        y = y.mT
    y = y / (y.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = y @ y.mT
        y = 3.4445 * y + (-4.7750 * a + 2.0315 * a @ a) @ y
    result: Tensor = (y.mT if wide else y).to(x.dtype)
    return result


@dataclass(frozen=True)
class Settings:
    r"""What defines a run, apart from the prior.

    Arguments:
        steps: The last step.
        decay: Over how many last steps the learning rate falls to zero, as one minus a root.
        warmup: Over how many steps it rises after the optimisers began.
        batch: Windows a step.
        rate: The learning rate of the matrices inside the network (Muon).
        outer_rate: That of everything else (AdamW).
        weight_decay: Of both.
        averaging: The weight of the past in the average of the weights, which is what ships.
        full: The share of steps with contexts of full length; the others draw a number of patches.
        reuse: How often a series is drawn from the pool, on average.
        eventful: The share of windows that are chosen of three, as the one whose context ends farthest from its mean:
            a forecast is asked for in the midst of an event as it is in the quiet, and events are rare.
        teaching: The share of the loss of full contexts that the teachers make, where there are any.
        blur: The standard deviation of the noise that targets are taken to have, in scales of the context.
        seed: Of the initial weights and of every series.

    Raises:
        ValueError: If a number is out of its range.
    """

    steps: int = 60_000
    decay: int = 12_000
    warmup: int = 500
    batch: int = 256
    rate: float = 2e-3
    outer_rate: float = 1.5e-3
    weight_decay: float = 0.01
    averaging: float = 0.999
    full: float = 0.6
    reuse: int = 3
    eventful: float = 0.5
    teaching: float = 0.6
    blur: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "steps": 1, "warmup": 1, "batch": 1, "reuse": 1, "decay": 0, "weight_decay": 0, "seed": 0, "rate": 0,
            "outer_rate": 0, "averaging": 0, "full": 0, "teaching": 0, "blur": 0, "eventful": 0,
        }  # fmt: skip
        for name, least in ranges.items():
            limits = {"seed": 10**8, "blur": 10, "reuse": self.batch * Trainer.REFILL}
            whole = {"steps", "decay", "warmup", "batch"}
            most = limits.get(name, 10**9 if name in whole else 1)
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be from {least} to {most}, got {getattr(self, name)}")

    def factor(self, step: int, begun: int = 0) -> float:
        r"""Returns what the learning rates are multiplied with at a step, where the optimisers began at another."""
        fall = max(0, step - (self.steps - self.decay)) / max(1, self.decay)
        return min(1.0, (step - begun + 1) / self.warmup) * (1 - math.sqrt(min(1.0, fall)))


class Trainer:
    r"""One run: model, optimisers, averaged weights and the pool of series.

    All randomness follows from the seed and the step, so a run that is cut off goes on exactly.

    Arguments:
        settings: The run's settings.
        architecture: Fields of `T5Config` that replace those of `ARCHITECTURE`.
        device: Where it runs.
        teachers: Models the mean of whose forecasts of full contexts is learnt too.
    """

    POOL, REFILL = 16, 12  # refills that the pool holds, steps between two
    CHECK = 4096  # windows of the validation set
    CANDIDATES = 3  # windows of which the one is taken that ends farthest from its mean, in a share of the batch

    def __init__(
        self,
        settings: Settings,
        architecture: dict[str, Any],
        device: str | torch.device = "cpu",
        teachers: Sequence[Any] = (),
    ) -> None:
        self.teachers = teachers
        self.settings, self.architecture, self.device = settings, architecture, torch.device(device)
        self.model = build_model(settings.seed, **architecture).to(self.device)
        named = dict(self.model.named_parameters())
        inner = [p for n, p in named.items() if ".block." in n and p.ndim == 2 and "relative" not in n]
        outer = [p for p in named.values() if all(p is not q for q in inner)]
        self.optimisers: list[tuple[float, torch.optim.Optimizer]] = [
            (settings.rate, Muon(inner, lr=settings.rate, weight_decay=settings.weight_decay)),
            (
                settings.outer_rate,
                torch.optim.AdamW(outer, lr=settings.outer_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay),
            ),
        ]
        self.average = {n: p.detach().clone() for n, p in named.items()}
        self.step = 0
        self.history: list[dict[str, Any]] = []  # where a start or a resume set the schedule, and the prior
        self.pool = torch.empty(0)
        dice = Dice(settings.seed + 10**9, self.device)
        self.check = draw_windows(dice, draw_series(dice, 2 * self.CHECK, CONTEXT + HORIZON), self.CHECK)

    def _refill(self, number: int) -> Tensor:
        n = self.settings.batch * self.REFILL // self.settings.reuse
        dice = Dice(self.settings.seed * 10**7 + 10**6 + number, self.device)
        return draw_series(dice, n, CONTEXT + HORIZON)

    def batch(self) -> tuple[Tensor, Tensor]:
        r"""Returns the contexts and targets of the current step."""
        number = self.step // self.REFILL
        if not len(self.pool):
            self.pool = torch.cat([self._refill(number - i) for i in range(self.POOL)][::-1])
        elif self.step % self.REFILL == 0:
            fresh = self._refill(number)
            self.pool = torch.cat([self.pool[len(fresh) :], fresh])
        dice = Dice(self.settings.seed * 10**9 + 2 * 10**9 + self.step, self.device)
        x = draw_windows(dice, self.pool, self.CANDIDATES * self.settings.batch)
        length = CONTEXT
        if float(dice.uniform(1)) > self.settings.full:
            length = PATCH * (1 + int(dice.uniform(1) * (CONTEXT // PATCH)))
        x = x[:, CONTEXT - length :].view(self.CANDIDATES, self.settings.batch, -1)
        # what a law says of the future of a past does not depend on how often that past is looked at
        chosen = ends_apart(x[..., :length]).argmax(0)
        chosen = torch.where(dice.coin(len(chosen), chance=self.settings.eventful), chosen, 0)
        x = x[chosen, torch.arange(len(chosen), device=x.device)]
        return x[:, :length], x[:, length:]

    def loss(self, context: Tensor, target: Tensor, training: bool = False) -> Tensor:
        r"""Returns the mean loss over the windows whose context moves and whose target is seen.

        Arguments:
            context: The past, with shape :math:`(B, L)`.
            target: The future, with shape :math:`(B, H)`.
            training: Whether the targets are blurred and the teachers heard.
        """
        with torch.autocast(self.device.type, torch.bfloat16):
            taught = None
            if training and self.teachers and context.shape[1] == CONTEXT:
                with torch.no_grad():
                    taught = taught_quantiles(self.teachers, context)
            blur = self.settings.blur if training else 0.0
            loss = quantile_loss(self.model, context, target, taught, self.settings.teaching, blur)
        centred, count = _centred(context)
        moves = centred.square().sum(-1) > 1e-3 * count
        keep = moves & (count > 7) & ~target.isnan().all(-1)
        return (torch.where(keep, loss, 0.0)).sum() / keep.sum().clamp(min=1)

    def advance(self) -> float:
        r"""Takes one step.

        Returns:
            The loss before it.

        Raises:
            FloatingPointError: If the loss is not finite; nothing is changed then.
        """
        begun = max((part["from"] for part in self.history if "weights" in part), default=0)
        factor = self.settings.factor(self.step, begun)
        loss = self.loss(*self.batch(), training=True)
        if not loss.isfinite():
            raise FloatingPointError(f"the loss of step {self.step} is {float(loss.detach())}: give a lower rate")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for rate, optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate * factor
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        past = min(self.settings.averaging, self.step / (self.step + 20))
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                self.average[name].lerp_(parameter, 1 - past)
        return float(loss.detach())

    @torch.no_grad()
    def validate(self) -> float:
        r"""Returns the averaged weights' loss on windows of the prior that training never sees."""
        held = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        self.model.load_state_dict(self.average, strict=False)
        total = [self.loss(x[:, :CONTEXT], x[:, CONTEXT:]) for x in self.check.split(512)]
        self.model.load_state_dict(held, strict=False)
        return float(torch.stack(total).mean())

    def save(self, path: Path) -> None:
        r"""Writes all that going on needs.

        Arguments:
            path: The file.
        """
        state = {
            "settings": dataclasses.asdict(self.settings),
            "architecture": self.architecture,
            "step": self.step,
            "history": self.history,
            "model": self.model.state_dict(),
            "average": self.average,
            "optimisers": [optimiser.state_dict() for _, optimiser in self.optimisers],
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def load(self, path: Path) -> None:
        r"""Goes on from a file that `save` wrote.

        Arguments:
            path: The file.

        Raises:
            ValueError: If it can not be read, or that run has another architecture or seed.
        """
        state = _state(path, self.device)
        if {**ARCHITECTURE, **state["architecture"]} != {**ARCHITECTURE, **self.architecture}:
            raise ValueError(f"{path} is of the architecture {state['architecture']}, not {self.architecture}")
        if state["settings"]["seed"] != self.settings.seed:
            raise ValueError(f"{path} is of the seed {state['settings']['seed']}, not {self.settings.seed}")
        self.step, self.history = state["step"], state["history"]
        self.model.load_state_dict(state["model"])
        self.average = state["average"]
        for (_, optimiser), saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
            for group in optimiser.param_groups:
                group["weight_decay"] = self.settings.weight_decay  # the rate is set at every step

    def begin(self, folder: Path) -> str:
        r"""Takes the weights of an exported model, its steps and its history; the optimisers start afresh.

        A network of more layers than the model's forecasts what the model does, and has more to learn with: layers
        stand more than once, all but the first time with outputs of zero.

        Arguments:
            folder: A directory that `export` wrote.

        Returns:
            What the card calls these weights: their version, and whether the network grew.

        Raises:
            ValueError: If it can not be read, has more layers, or differs in more than their number.
        """
        model, card = _exported(folder)
        theirs = {name: getattr(model.config, name) for name in ARCHITECTURE}
        ours = {**ARCHITECTURE, **self.architecture}
        if any(ours[x] < theirs[x] if x in DEPTHS else ours[x] != theirs[x] for x in ARCHITECTURE):
            raise ValueError(f"{folder} is of the architecture {theirs}; expected {ours}, or fewer layers")
        outside = {name: weight for name, weight in model.state_dict().items() if ".block." not in name}
        self.model.load_state_dict(outside, strict=False)
        _grow(self.model.encoder.block, model.encoder.block)
        _grow(self.model.decoder.block, model.decoder.block)
        self.average = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.step, self.history = card["steps"], card["history"]
        fewer = " + ".join(str(theirs[x]) for x in DEPTHS)
        grown = "" if theirs == ours else f", grown from {fewer} layers"
        return str(card["version"]) + grown


def _grow(blocks: nn.ModuleList, source: nn.ModuleList) -> None:
    r"""Fills blocks with those of a model that has as many or fewer, spread evenly; a block's copies add nothing."""
    whose = [((i + 1) * len(source) - 1) // len(blocks) for i in range(len(blocks))]
    for i, block in enumerate(blocks):
        block.load_state_dict(source[whose[i]].state_dict(), strict=False)  # the first alone has a bias of distances
        if i and whose[i] == whose[i - 1]:
            for name, layer in block.named_modules():
                if name.endswith((".o", ".wo")):
                    nn.init.zeros_(layer.weight)


def export(run: Path, folder: Path, version: str = "0", dtype: torch.dtype = torch.float16) -> None:
    r"""Writes the averaged weights of a run as a model directory in half precision, and the facts of its card.

    Arguments:
        run: The run's folder.
        folder: Where `config.json`, `model.safetensors` and `card.json` go.
        version: What the card calls the weights.
        dtype: The precision.

    Raises:
        ValueError: If the run or its log can not be read, or its weights are not finite.
    """
    import chronos
    import transformers

    model, state = _averaged(run)
    path = run / "log.jsonl"  # not there where `last.pt` alone was copied
    try:
        log = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    except ValueError as error:
        raise ValueError(f"{path} holds a line that is no JSON: remove it") from error
    model.to(dtype).save_pretrained(folder)
    card = {
        "name": "bolt-nano",
        "version": version,
        "sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "architecture": {**ARCHITECTURE, **state["architecture"]},
        "context_length": CONTEXT,
        "prediction_length": HORIZON,
        "patch": PATCH,
        "quantile_levels": LEVELS,
        "precision": str(dtype).removeprefix("torch."),
        "prior": {kind.__name__: share for kind, share in KINDS.items()},
        "settings": state["settings"],
        "history": state["history"],
        "steps": state["step"],
        "windows": _windows(state),
        "validation_loss": {
            str(line["step"]): line["validation"] for line in log[:: max(1, len(log) // 20)] + log[-1:]
        },
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "chronos-forecasting": chronos.__version__,
        },
    }
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n")


def _windows(state: dict[str, Any]) -> int:
    r"""Counts the windows seen; where a part of the history does not name its batch, it was the last part's."""
    batch = state["settings"]["batch"]
    parts = [{"from": 0, "batch": batch}, *state["history"]]
    ends = [part["from"] for part in parts[1:]] + [state["step"]]
    return sum((end - part["from"]) * part.get("batch", batch) for part, end in zip(parts, ends, strict=True))


def _state(path: Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    r"""Reads what `Trainer.save` wrote."""
    try:
        state: Any = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch has many: of pickles, of archives, of files
        raise ValueError(f"{path} can not be read as a checkpoint of a run: {type(error).__name__}") from error
    wanted = {"settings", "architecture", "step", "history", "model", "average", "optimisers"}
    if not (isinstance(state, dict) and wanted <= set(state)):
        raise ValueError(f"{path} is no checkpoint of a run: it lacks some of {', '.join(sorted(wanted))}")
    return state


def _averaged(run: Path) -> tuple[Any, dict[str, Any]]:
    r"""Builds the model of a run's averaged weights, and returns it with all that the run saved."""
    state = _state(run / "last.pt")
    model = build_model(**state["architecture"])
    try:
        absent, unknown = model.load_state_dict(state["average"], strict=False)
    except RuntimeError as error:
        raise ValueError(f"{run / 'last.pt'} holds weights of other shapes than its architecture's") from error
    shared = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}  # `shared.weight` under other names
    if set(absent) - shared or unknown:
        raise ValueError(f"{run / 'last.pt'} is of another model: {len(absent)} weights lack, {len(unknown)} unknown")
    if not all(bool(weight.isfinite().all()) for weight in state["average"].values()):
        raise ValueError(f"{run / 'last.pt'} holds weights that are not finite: take an earlier checkpoint")
    return model, state


def _exported(folder: Path) -> tuple[Any, dict[str, Any]]:
    r"""Loads the model that `export` wrote, and returns it with the facts of its card."""
    from adapts.foundation.chronos import from_directory

    path = folder / "card.json"
    try:
        card: Any = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON") from error
    wanted = {"version", "sha256", "steps", "history"}
    if not (isinstance(card, dict) and wanted <= set(card)):
        raise ValueError(f"{path} is no card that --export writes: it lacks some of {', '.join(sorted(wanted))}")
    model = from_directory(folder).model
    if hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() != card["sha256"]:
        raise ValueError(f"the weights in {folder} have another sha256 than {path} states")
    return model, card


def _teacher(folder: Path) -> tuple[Any, str]:
    r"""Builds a model that teaches, of a run or of an exported model, and returns it with what the card calls it."""
    if (folder / "last.pt").is_file():
        model, state = _averaged(folder)
        return model, f"step {state['step']}"
    model, card = _exported(folder)
    return model, f"version {card['version']}"


def _check_begun(history: list[dict[str, Any]], folder: Path, run: Path) -> None:
    r"""Refuses weights to begin with for a run that has begun with others."""
    version = str(_exported(folder)[1]["version"])
    begun = [str(part["weights"]).split(",")[0] for part in history if "weights" in part]
    if begun[-1:] != [version]:
        raise ValueError(
            f"{run} holds a run that began with {f'version {begun[-1]}' if begun else 'weights of its own'}, not with "
            f"version {version} of --begin {folder}: leave --begin out to go on, or give a new folder"
        )


def _architecture(text: str) -> dict[str, Any]:
    r"""Reads fields of `ARCHITECTURE` from JSON."""
    try:
        fields: Any = json.loads(text)
    except json.JSONDecodeError:
        fields = None
    if not (isinstance(fields, dict) and set(fields) <= set(ARCHITECTURE)):
        raise argparse.ArgumentTypeError(f"expected JSON of some of {', '.join(ARCHITECTURE)}, got {text}")
    if not all(type(value) is int and value > 0 for value in fields.values()):
        raise argparse.ArgumentTypeError(f"expected whole numbers from 1, got {text}")
    both = {**ARCHITECTURE, **fields}
    buckets, distance = both["relative_attention_num_buckets"], both["relative_attention_max_distance"]
    if buckets < 4 or distance <= buckets // 4:  # of its half for either side T5 gives half to single distances
        raise argparse.ArgumentTypeError(
            f"expected 4 buckets or more and a maximum distance above a quarter of them, got {buckets} and {distance}"
        )
    return fields


def _positive(text: str) -> int:
    r"""Reads a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text}")
    return int(text)


def main() -> None:
    r"""Reads the options and trains, goes on with, or exports a run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="the run's folder; a run found there goes on")
    for field in dataclasses.fields(Settings):
        option = "--" + field.name.replace("_", "-")
        parser.add_argument(option, type=type(field.default), default=field.default, help="default %(default)s")
    parser.add_argument("--architecture", type=_architecture, default={}, help="JSON, replaces fields of ARCHITECTURE")
    parser.add_argument("--device", default="auto", help="as torch names it; default CUDA where there is one")
    parser.add_argument("--threads", type=_positive, default=torch.get_num_threads())
    parser.add_argument(
        "--teacher",
        type=Path,
        action="append",
        default=[],
        help="a run or an exported model that teaches; may be given more than once",
    )
    parser.add_argument("--begin", type=Path, help="an exported model, with whose weights a new run begins")
    parser.add_argument("--every", type=_positive, default=500, help="steps between two checkpoints and validations")
    parser.add_argument("--export", type=Path, help="write the run's averaged weights to this directory and stop")
    parser.add_argument("--version", default="0", help="what the card of the exported weights calls them")
    options = vars(parser.parse_args())
    run: Path = options["run"]
    if options["export"] and not (run / "last.pt").is_file():
        parser.error(f"{run} holds no run: there is no last.pt in it, which training writes")
    for folder in options["teacher"]:
        if not any((folder / name).is_file() for name in ("last.pt", "card.json")):
            parser.error(f"{folder} can not teach: neither last.pt of a run nor card.json of --export is in it")
    if options["begin"] and not (options["begin"] / "card.json").is_file():
        parser.error(f"{options['begin']} holds no exported model: there is no card.json in it, which --export writes")
    for folder in (run, options["export"]):
        if folder and folder.exists() and not folder.is_dir():
            parser.error(f"{folder} is a file: give a folder")
    torch.set_num_threads(options["threads"])
    try:
        if options["export"]:
            export(run, options["export"], options["version"])
            return
        device = device_named(options["device"])
        settings = Settings(**{field.name: options[field.name] for field in dataclasses.fields(Settings)})
        taught = [_teacher(folder) for folder in options["teacher"]]
        told = {"teacher": " and ".join(name for _, name in taught)} if taught else {}
        teachers = [model.requires_grad_(False).to(device) for model, _ in taught]
        trainer = Trainer(settings, options["architecture"], device, teachers)
        if (run / "last.pt").exists():
            trainer.load(run / "last.pt")
            if options["begin"]:
                _check_begun(trainer.history, options["begin"], run)
        elif options["begin"]:
            told["weights"] = trainer.begin(options["begin"])
    except ValueError as error:
        parser.error(str(error))
    if trainer.step >= settings.steps:
        parser.error(f"--steps {settings.steps}: the weights stand at step {trainer.step} already; give more to go on")
    run.mkdir(parents=True, exist_ok=True)
    kept = dataclasses.asdict(settings)
    del kept["seed"]  # a run's seed stays
    begun = {**kept, "prior": VERSION, **told}
    last = trainer.history[-1] if trainer.history else {}
    if begun != {name: value for name, value in last.items() if name not in ("from", "weights")}:
        trainer.history.append({"from": trainer.step, **begun})  # else it goes on where it was cut off
    try:
        _train(trainer, run, options["every"])
    except FloatingPointError as error:
        parser.error(f"{error}; {run} keeps its last checkpoint")


def _train(trainer: Trainer, run: Path, every: int) -> None:
    r"""Trains to the last step, and writes checkpoints and a log; nothing that is not finite is written."""
    start, losses = time.perf_counter(), []
    while trainer.step < trainer.settings.steps:
        losses.append(trainer.advance())
        if trainer.step % every == 0 or trainer.step == trainer.settings.steps:
            seconds = time.perf_counter() - start
            validation = trainer.validate()
            if not math.isfinite(validation):
                raise FloatingPointError(f"the weights of step {trainer.step} are lost: give a lower rate")
            trainer.save(run / "last.pt")
            line = {
                "step": trainer.step,
                "loss": round(sum(losses) / len(losses), 5),
                "validation": round(validation, 5),
                "windows_a_second": round(len(losses) * trainer.settings.batch / seconds),
            }
            with (run / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
            start, losses = time.perf_counter(), []


if __name__ == "__main__":
    main()
