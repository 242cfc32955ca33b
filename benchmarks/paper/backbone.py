r"""A weak frozen model: a small PatchTST, pretrained in seconds by imputing masked patches of simulated series."""

from functools import cache
from typing import Any

import torch

from adapts import load_foundation_model
from adapts._random import seeded
from adapts.foundation import FoundationModel
from pretraining.bolt_nano.prior import Dice, draw_series

CONTEXT, PATCH = 512, 16
#: The simulated series, the steps of the training, and the series of a step.
SERIES, STEPS, BATCH = 512, 150, 32
LEARNING_RATE = 1e-3


@cache
def weak_backbone(steps: int = STEPS) -> FoundationModel:
    r"""The model, always the same; its head is untrained, so that each fit trains one first, as the paper does.

    AdamW minimises the squared error of the masked patches, four tenths of a window. The series are those of the prior
    of bolt-nano; no real data enter.

    Arguments:
        steps: The number of training steps.
    """
    from transformers import PatchTSTConfig, PatchTSTForPretraining

    options: dict[str, Any] = {
        "num_input_channels": 1, "context_length": CONTEXT, "patch_length": PATCH, "patch_stride": PATCH,
        "prediction_length": 96, "d_model": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 64,
        "norm_type": "layernorm", "random_mask_ratio": 0.4, "scaling": None,
    }  # fmt: skip
    with seeded(0):
        model = PatchTSTForPretraining(PatchTSTConfig(**options))
        optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
        pool = draw_series(Dice(0), SERIES, CONTEXT).float()
        pool = (pool - pool.mean(1, keepdim=True)) / pool.std(1, keepdim=True).clamp(min=1e-3)
        for _ in range(steps):
            batch = pool[torch.randint(len(pool), (BATCH,))]
            loss = model(past_values=batch.unsqueeze(-1)).loss
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
    model.model.name_or_path = "small PatchTST"
    frozen = load_foundation_model(model.eval())
    frozen.version = f"of {steps} steps"
    return frozen
