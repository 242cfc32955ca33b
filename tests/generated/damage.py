r"""Damage: to bytes, to trees of JSON or YAML, to tensors."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import torch
from torch import Tensor

from . import odd
from .judge import Unbuilt

Path = list[Any]


def damaged(random: Random, content: bytes) -> bytes:
    r"""Bytes with a few of them flipped, cut, doubled, moved or made up."""
    made = bytearray(content)
    for _ in range(random.choice([1, 1, 1, 2, 5, 30])):
        size = len(made)
        if not size:
            break
        at = random.choice(
            [random.randrange(size), random.randrange(min(size, 60)), size - 1 - random.randrange(min(size, 200))]
        )
        length = random.choice([1, 2, 4, 8, 16, random.randrange(1, size + 1)])
        how = random.randrange(12)
        if how <= 3:
            made[at] ^= 1 << random.randrange(8)
        elif how == 4:
            made[at] = random.choice(b"0123456789,.;\n\r\t \"'{}[]:-+eE\x00\xff")
        elif how == 5:
            del made[at : at + length]
        elif how == 6:
            made[at:at] = made[at : at + length]
        elif how == 7:
            made[at:at] = bytes(random.randrange(256) for _ in range(min(length, 40)))
        elif how == 8:
            made[at : at + length] = bytes(len(made[at : at + length]))
        elif how == 9:
            made = made[:at]
        elif how == 10:
            made = made[at:] + made[:at]
        else:
            made[at : at + 8] = random.choice([2**31, 2**63 - 1, 2**64 - 1, 1]).to_bytes(
                8, random.choice(["little", "big"])
            )
    return bytes(made)


# ------------------------------------------------------------------------------------------------------ trees


def _plain(random: Random, held: Any) -> Any:
    r"""A value that JSON can hold, often near the one that was held."""
    if random.random() < 0.45:
        if isinstance(held, bool):
            return random.choice([not held, int(held), str(held), None])
        if isinstance(held, int | float):
            near = [
                held + 1,
                held - 1,
                2 * held,
                -held,
                float(held),
                str(held),
                [held],
                held / 3,
                held * 10**6,
                bool(held),
                0,
                1,
            ]
            return random.choice(near)
        if isinstance(held, str):
            swapped = [
                "residual",
                "identity",
                "linear",
                "vae",
                "h",
                "D",
                "MS",
                "UTC",
                "ns",
                "s",
                "Europe/Berlin",
                "true",
                "0",
            ]
            return random.choice([held + "x", held[:-1], held.upper(), [held], "", f"../{held}", "/abs", *swapped])
        if isinstance(held, list):
            pieces = [
                held[:-1],
                held[::-1],
                held * 2,
                [*held, None],
                [*held, *held[:1]],
                [held],
                dict.fromkeys(map(str, held)),
                {},
            ]
            return random.choice([*pieces, [str(each) for each in held], [1.5 for _ in held], held * 1000])
        if isinstance(held, dict):
            return random.choice([list(held), list(held.items()), {}, None, {**held, "x": 1}, str(held), [held]])
    choices: Sequence[Callable[[], Any]] = (
        lambda: None,
        lambda: random.choice([True, False]),
        lambda: random.choice([0, 1, -1, 2, 3, 24, 100, 1000]),
        lambda: random.choice([1.5, 1e308, -0.0, 1e-300, 0.5]),
        lambda: random.choice([math.nan, math.inf, -math.inf]),
        lambda: random.choice([2**31 - 1, 2**31, 2**32, 2**63, 10**25, 10**400]),
        lambda: random.choice(odd.TEXTS),
        lambda: [],
        lambda: {},
        lambda: [[]],
        lambda: [None],
        lambda: ["a", "b"],
        lambda: [1, 2],
        lambda: {"a": 1},
        lambda: [{}],
        lambda: odd.nested(random.choice([5, 80])),
        lambda: [0] * 10**4,
        lambda: {"__class__": "x"},
        lambda: random.choice(odd.DATES),
    )
    return random.choice(choices)()


def places(tree: Any, above: Path | None = None) -> list[Path]:
    r"""The paths of all nodes of a tree, itself first."""
    above = above or []
    found = [above]
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        found += places(value, [*above, key])
    return found


def altered(random: Random, tree: Any) -> tuple[Any, str]:
    r"""A tree with a leaf, a key or a branch made wrong, and what was done."""
    tree = copy.deepcopy(tree)
    told = []
    for _ in range(random.choice([1, 1, 1, 2])):
        paths = places(tree)
        path = random.choice(paths[1:] if random.random() < 0.99 and len(paths) > 1 else paths)
        if random.random() < 0.3:  # leaves are many, what stands on top is not
            path = random.choice([each for each in paths if len(each) <= 1])
        if not path:
            tree = _plain(random, tree)
            told.append("the whole")
            continue
        holder = tree
        for key in path[:-1]:
            holder = holder[key]
        name, how = path[-1], random.random()
        where = "/".join(map(str, path))
        if how < 0.75:
            holder[name] = _plain(random, holder[name])
            told.append(f"{where} = {str(holder[name])[:60]!r}")
        elif how < 0.85:
            del holder[name]
            told.append(f"{where} dropped")
        elif isinstance(holder, dict):
            key = random.choice(["x", "", "__init__", name + "x", name.upper(), *map(str, list(holder)[:3])])
            holder[key] = holder.pop(name) if how < 0.93 else copy.deepcopy(holder[name])
            told.append(f"{where} as {key!r}")
        else:
            holder.insert(random.randint(0, len(holder)), _plain(random, holder[name]))
            told.append(f"{where} has another before it")
    return tree, "; ".join(told)


# ---------------------------------------------------------------------------------------------------- tensors


def retensored(random: Random, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    r"""Tensors of which one or two are wrong, and what was done."""
    made = dict(tensors)
    try:
        told = [_retensored(random, made) for _ in range(random.choice([1, 1, 1, 2])) if made]
    except (IndexError, RuntimeError, TypeError) as error:
        raise Unbuilt(str(error)) from error
    return made, "; ".join(told)


def _retensored(random: Random, made: dict[str, Tensor]) -> str:
    names = sorted(made)
    name, other = random.choice(names), random.choice(names)
    tensor = made[name]
    real = tensor if tensor.is_floating_point() else tensor.double()
    generator = torch.Generator().manual_seed(random.randrange(99))
    types = [torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.bool]
    choices: dict[str, Callable[[], Tensor]] = {
        "flat": lambda: tensor.reshape(-1),
        "transposed": lambda: tensor.T if tensor.ndim == 2 else tensor.flip(tuple(range(tensor.ndim))),
        "unsqueezed": lambda: tensor.unsqueeze(random.randint(0, tensor.ndim)),
        "one": lambda: tensor.reshape(-1)[:1],
        "scalar": lambda: tensor.reshape(-1)[0],
        "empty": lambda: tensor[:0],
        "shorter": lambda: tensor[: max(0, len(tensor) - 1)],
        "longer": lambda: torch.cat([tensor, tensor[:1]]),
        "wider": lambda: torch.cat([tensor, tensor], -1),
        "of another type": lambda: tensor.to(random.choice(types)),
        "of another precision": lambda: tensor.to(torch.float32 if tensor.dtype == torch.float64 else torch.float64),
        "complex": lambda: tensor.to(torch.complex64),
        "NaN": lambda: torch.full_like(real, math.nan),
        "NaN in one cell": lambda: _one(random, real, math.nan),
        "infinite in one cell": lambda: _one(random, real, random.choice([math.inf, -math.inf])),
        "huge in one cell": lambda: _one(random, real, random.choice([1e300, -1e300, 1e38, 2.0**62])),
        "scaled": lambda: tensor * random.choice([0, -1, 2, 1000]),
        "scaled far": lambda: real * random.choice([1e300, 1e-300, 1e30, -1e10]),
        "made up": lambda: torch.randn(tensor.shape, generator=generator).to(tensor.dtype),
        "swapped": lambda: made[other],
        "shuffled": lambda: tensor.reshape(-1).flip(0).reshape(tensor.shape),
        "shifted": lambda: tensor + 1,
    }
    how = random.choice([*choices, "dropped", "renamed", "beside a copy"])
    if how == "renamed":
        names = [name + "x", name.upper(), name.replace(".", "_"), "x", "", name.partition(".")[2]]
        made[random.choice(names)] = made.pop(name)
    elif how == "beside a copy":
        made[random.choice([name + ".x", "rows.9", "clock.0", "clock.9", "module.x", "copula.x"])] = tensor.clone()
    elif how == "dropped":
        del made[name]
    else:
        made[name] = choices[how]().contiguous().clone()
        if how == "swapped":
            made[other] = tensor
    return f"{name} {tuple(tensor.shape)} {how}"


def _one(random: Random, tensor: Tensor, value: float) -> Tensor:
    made = tensor.clone()
    if made.numel():
        made.view(-1)[random.randrange(made.numel())] = value
    return made
