"""pytorch-forecasting's TFT: its own data loader and Lightning's fit, timed by a callback."""

from __future__ import annotations

import logging
from typing import Any

import lightning.pytorch as lightning
import pytorch_forecasting
import torch
from measure import Stopwatch, Task, long_frame, nearest_width, read_task
from pytorch_forecasting import TemporalFusionTransformer, TimeSeriesDataSet
from pytorch_forecasting.metrics import QuantileLoss


class Clock(lightning.Callback):
    def __init__(self, watch: Stopwatch) -> None:
        self.watch = watch

    def on_train_batch_end(self, *_: Any) -> None:
        self.watch.step()


def model_of(data: Any, task: Task, width: int) -> Any:
    return TemporalFusionTransformer.from_dataset(
        data,
        hidden_size=width,
        hidden_continuous_size=max(4, width // 2),
        attention_head_size=4,
        output_size=len(task.levels),
        loss=QuantileLoss(quantiles=task.levels),
        log_interval=-1,
    )


def parameters(model: Any) -> int:
    return sum(value.numel() for value in model.parameters() if value.requires_grad)


def main() -> None:
    task = read_task()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(task.threads)
    frame = long_frame(task)
    frame["step"] = frame.groupby("unique_id").cumcount()
    data = TimeSeriesDataSet(
        frame,
        time_idx="step",
        target="y",
        group_ids=["unique_id"],
        max_encoder_length=task.length,
        min_encoder_length=task.length,
        max_prediction_length=task.outputs,
        min_prediction_length=task.outputs,
        time_varying_unknown_reals=["y", *(f"x{k}" for k in range(task.covariates))],
    )
    width = nearest_width(
        lambda size: parameters(model_of(data, task, size)), task.parameters, range(4, 129, 4)
    )
    watch, model = Stopwatch(task), model_of(data, task, width)
    trainer = lightning.Trainer(
        max_steps=task.warmup + task.steps,
        max_epochs=-1,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=False,
        gradient_clip_val=1.0,
        callbacks=[Clock(watch)],
    )
    trainer.fit(model, data.to_dataloader(train=True, batch_size=task.batch, num_workers=0))
    watch.report(
        parameters(model),
        width,
        pytorch_forecasting=pytorch_forecasting.__version__,
        torch=torch.__version__,
    )


if __name__ == "__main__":
    main()
