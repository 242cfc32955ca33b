r"""One run of the public implementation of AdaPTS, in a process of its own: its package bears the name of ours.

    python -m benchmarks.reference.worker FOLDER      # called by benchmarks.reference.run

`FOLDER/job.json` says what to run, `FOLDER/windows.npz` holds the windows, `FOLDER/samples.npz` receives the samples
and `FOLDER/found.json` the figures. Nothing of the repository is copied or changed. What it lacks on current packages
is supplied here, at run time:

- its modules for plots and for TensorBoard are replaced by a module without content and by a recorder of the losses
  with the time, which costs less than what it replaces;
- current releases of scikit-learn ask each step of a pipeline whether it is fitted; its scaler now says so;
- current releases of Chronos call the first argument of `predict_quantiles` "inputs", earlier ones "context";
- the frozen model is loaded in single precision, as ours is, where the repository's own function asks for bfloat16.

With "gradient" the frozen model's median is computed with gradients, which Chronos itself switches off: without them
the encoder is not trained.
"""

import json
import random
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from chronos import BaseChronosPipeline

from benchmarks import memory

VALIDATION_DRAWS = 8
TRACE: list[tuple[str, float, float]] = []  # the tag, the value and the time of everything that is logged


class Recorder:
    r"""Takes the place of TensorBoard's writer, and keeps what is logged with its time."""

    def __init__(self, *_: Any) -> None:
        TRACE.clear()

    def add_scalar(self, tag: str, value: float, *_: Any) -> None:
        if tag == "Loss/validation":
            TRACE.append((tag, float(value), time.process_time()))

    def close(self) -> None:
        pass


class Pipeline:
    r"""A Chronos pipeline whose first argument bears its earlier name.

    Arguments:
        pipeline: The pipeline.
        gradient: Whether its medians carry gradients. Beyond the steps of one pass, medians then prolong the context;
            Chronos itself prolongs it by each quantile.
    """

    def __init__(self, pipeline: Any, gradient: bool) -> None:
        self.pipeline, self.inner_model, self.gradient = pipeline, pipeline.inner_model, gradient
        self.inner_model.requires_grad_(False)

    def predict_quantiles(
        self, context: torch.Tensor, prediction_length: int, quantile_levels: list[float]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not (self.gradient and torch.is_grad_enabled()):
            return self.pipeline.predict_quantiles(
                context, prediction_length=prediction_length, quantile_levels=quantile_levels
            )
        median, blocks = self.pipeline.quantiles.index(0.5), []
        while sum(block.shape[-1] for block in blocks) < prediction_length:
            context = torch.cat([context, *blocks[-1:]], dim=-1)[..., -self.pipeline.model_context_length :]
            blocks.append(self.inner_model(context=context).quantile_preds[:, median])
        path = torch.cat(blocks, dim=-1)[..., :prediction_length]
        return path.unsqueeze(-1), path


def build(job: dict[str, Any]) -> Any:
    r"""The public model with an adapter, around the frozen model."""
    package = ModuleType("adapts")  # it has no __init__.py, and a package that has one would be found before it
    package.__path__ = [str(Path(job["repository"]) / "src" / "adapts")]
    sys.modules["adapts"] = package
    tensorboard = ModuleType("torch.utils.tensorboard")
    tensorboard.SummaryWriter = Recorder  # type: ignore[attr-defined]
    sys.modules["torch.utils.tensorboard"] = tensorboard
    sys.modules["seaborn"] = ModuleType("seaborn")
    from adapts import adapters, adapts  # the public ones
    from adapts.icl.chronos import ChronosICLTrainer
    from adapts.utils.preprocessing import AxisScaler

    AxisScaler.__sklearn_is_fitted__ = lambda self: True

    pipeline = Pipeline(BaseChronosPipeline.from_pretrained(job["checkpoint"], dtype=torch.float32), job["gradient"])
    channels, horizon = job["channels"], job["prediction_length"]
    projector = adapters.MultichannelProjector(
        num_channels=channels, new_num_channels=channels, base_projector=job["adapter"], use_revin=True,
        context_length=job["context_length"], forecast_horizon=horizon,
    )  # fmt: skip
    trainer = ChronosICLTrainer(pipeline, n_features=channels, forecast_horizon=horizon)
    return adapts.ADAPTS(projector, trainer, n_features=channels, n_components=channels)


def forecast(model: Any, past: np.ndarray) -> np.ndarray:
    r"""The forecast of windows (n, D, L) by one draw of the adapter as it was trained, with shape (n, D, H)."""
    latent = model.adapter.transform(model.scaler.transform(past))
    model.iclearner.update_context(time_series=latent, context_length=latent.shape[-1])
    found = model.iclearner.predict_long_horizon(prediction_horizon=model.iclearner.forecast_horizon)
    return model.inverse_transform(np.concatenate([channel.mean_arr for channel in found], axis=1))


def encoder_of(model: Any) -> torch.Tensor:
    r"""All weights of the encoder."""
    own = model.adapter.base_projector_.named_parameters()
    return torch.cat([x.detach().clone().flatten() for name, x in own if name.startswith(("encoder", "latent"))])


def run(job: dict[str, Any], windows: dict[str, np.ndarray]) -> tuple[dict[str, float], np.ndarray]:
    r"""The figures of a run, and its samples of the test windows with shape (S, n, H, D)."""
    random.seed(job["seed"])
    np.random.seed(job["seed"])
    torch.manual_seed(job["seed"])
    model = build(job)
    before, held = encoder_of(model), memory.begin()
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        model.adapter_supervised_fine_tuning(
            X_train=windows["train_past"], y_train=windows["train_future"],
            X_val=windows["validation_past"], y_val=windows["validation_future"],
            n_epochs=job["epochs"], learning_rate=0.001, batch_size=32, log_dir=folder,
        )  # fmt: skip
    fitted = time.process_time()
    losses, times = np.array([value for _, value, _ in TRACE]), np.array([at for *_, at in TRACE]) - began
    errors = [forecast(model, windows["validation_past"]) - windows["validation_future"]
              for _ in range(VALIDATION_DRAWS)]  # fmt: skip
    start, horizon = time.process_time(), job["prediction_length"]
    with torch.no_grad():
        model.predict_multi_step(
            np.concatenate([windows["test_past"], np.zeros_like(windows["test_past"][..., :horizon])], axis=-1),
            prediction_horizon=horizon, n_samples=job["samples"], batch_size=128,
        )  # fmt: skip
        draws = [model.inverse_transform(draw[:, :, 0].swapaxes(0, 1)) for draw in model.all_predictions]
    found = {
        "fit_seconds": fitted - began,
        "epochs": float(len(losses)),
        "seconds_per_epoch": float(np.median(np.diff(times, prepend=0.0))),
        "seconds_to_best": float(times[losses.argmin()]),
        "validation_mse": float(np.mean(np.square(errors))),
        "predict_seconds": time.process_time() - start,
        "peak_gigabytes": memory.peak() - held,
        "encoder_change": float((encoder_of(model) - before).abs().max()),
    }
    return found, np.stack(draws).swapaxes(2, 3)


def main() -> None:
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text())
    with np.load(folder / "windows.npz") as arrays:
        windows = {name: arrays[name].swapaxes(1, 2) for name in arrays.files}  # (n, D, time)
    found, samples = run(job, windows)
    np.savez(folder / "samples.npz", samples=samples)
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
