"""neuralforecast's TFT or TSMixerx, which take historical covariates (PatchTST and iTransformer refuse them): its own fit, timed by a callback."""

from __future__ import annotations

import logging
import sys
from typing import Any

import neuralforecast
import pytorch_lightning as lightning
import torch
from measure import Stopwatch, Task, long_frame, nearest_width, read_task
from neuralforecast import NeuralForecast
from neuralforecast.losses.pytorch import MQLoss
from neuralforecast.models import TFT, TSMixerx


class Clock(lightning.Callback):
    watch: (
        Stopwatch  # of the class: neuralforecast trains a deep copy of the model and its callbacks
    )

    def on_train_batch_end(self, *_: Any) -> None:
        self.watch.step()


def model_of(name: str, task: Task, width: int, **trainer: Any) -> Any:
    common = {
        "h": task.outputs,
        "input_size": task.length,
        "hist_exog_list": [f"x{k}" for k in range(task.covariates)],
        "loss": MQLoss(quantiles=task.levels),
        "max_steps": task.warmup + task.steps,
        "windows_batch_size": task.batch,
        "batch_size": 4,
        "scaler_type": "identity",
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "logger": False,
        "accelerator": "cpu",
        **trainer,
    }
    if name == "TFT":
        return TFT(hidden_size=width, n_head=4, **common)
    return TSMixerx(n_series=1, ff_dim=width, n_block=2, **{**common, "batch_size": 1})


def parameters(model: Any) -> int:
    return sum(value.numel() for value in model.parameters() if value.requires_grad)


def main() -> None:
    task, name = read_task(), sys.argv[2]
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(task.threads)
    widths = range(4, 257, 4) if name == "TFT" else range(4, 1025, 8)
    width = nearest_width(
        lambda size: parameters(model_of(name, task, size)), task.parameters, widths
    )
    Clock.watch = watch = Stopwatch(task)
    model = model_of(name, task, width, callbacks=[Clock()])
    frame = long_frame(task) if name == "TFT" else long_frame(task, series=1, days=4000)
    NeuralForecast(models=[model], freq="D").fit(frame, val_size=0)
    watch.report(
        parameters(model), width, neuralforecast=neuralforecast.__version__, torch=torch.__version__
    )


if __name__ == "__main__":
    main()
