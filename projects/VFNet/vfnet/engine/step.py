"""One training step: forward, backward, finite check, update."""

import math
import random
import time
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

import numpy as np
import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import nn

from ..errors import UserError
from ..solver import check_continuable
from ..utils.comm import of_all_processes
from ..utils.events import collected_scalars
from ..utils.precision import autocast_type
from .accumulation import Accumulation


class NonFiniteLossError(UserError, FloatingPointError):
    """A loss became infinite or NaN; the message names it, the iteration and the images."""


class StepTrainer(SimpleTrainer):
    """Detectron2's `SimpleTrainer` with autocast on any device, and with two promises.

    What the model draws at random follows from (seed, iteration, rank), so that a continued run
    draws what the uninterrupted one would have drawn. And a loss or gradient that is not finite
    raises `NonFiniteLossError` on every process before any weight has changed.

    The host waits for a GPU once a step, after it has queued the backward pass: what it must know
    by then comes over together. Only `GradScaler`, for float16, has a transfer of its own.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[list[dict[str, Any]]],
        optimizer: torch.optim.Optimizer,
        *,
        seed: int = 0,
        device_type: str = "cpu",
        precision: torch.dtype | None = None,
        accum_steps: int = 1,
    ) -> None:
        """
        Args:
            model: returns a dict of scalar losses for a batch.
            data_loader: yields batches: lists of dicts as Detectron2's models take them.
            optimizer: steps the model's parameters.
            seed: not negative, the same on every process.
            device_type: "cpu", "cuda", ...: where autocast works.
            precision: what autocast computes in; None: no autocast.
            accum_steps: parts of a batch, one of which the model is given at a time.
        """
        super().__init__(model, data_loader, optimizer)
        self.seed = seed
        self.device_type = device_type
        self.precision = precision
        self.accumulation = Accumulation(model, accum_steps) if accum_steps > 1 else None
        # bfloat16 has the range of float32: only float16 needs its gradients scaled.
        self.grad_scaler = torch.amp.GradScaler(device_type, enabled=precision is torch.float16)

    def run_step(self) -> None:
        """Take one step with the next batch.

        Raises:
            NonFiniteLossError: on every process, when a loss or gradient of any is not finite.
        """
        assert self.model.training, "the model was left in eval mode"
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start

        # After fetching: how much a loader draws depends on its workers and on when it started.
        self._seed_generators()
        if self.accumulation is None:
            losses, scalars = self._forward(self.model, batch)
            self.optimizer.zero_grad()
            self._backward(sum(losses.values()))
        else:
            self.optimizer.zero_grad()
            losses, scalars = self.accumulation.compute(
                batch, self._forward, self._backward, self._seed_generators
            )
        self.after_backward()
        scalars["data_time"] = torch.full((), data_time, device=self.device_type)
        largest = self._largest_gradient()
        everyone = check_finite(losses, largest, batch, self.iter, scalars, self.model)
        self._write_scalars(everyone, list(losses))
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _seed_generators(self) -> None:
        seed_generators(self.seed, self.iter, comm.get_rank())

    def _forward(
        self, model: nn.Module, batch: list[dict[str, Any]]
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """The losses of a batch, and the scalars that the model writes."""
        enabled = self.precision is not None
        autocast = torch.autocast(self.device_type, self.precision, enabled=enabled)
        with collected_scalars() as scalars, autocast:
            return model(batch), scalars

    def _backward(self, loss: torch.Tensor) -> None:
        self.grad_scaler.scale(loss).backward()

    def _write_scalars(self, everyone: list[dict[str, float]], losses: list[str]) -> None:
        """Write what `check_finite` returned, as `SimpleTrainer.write_metrics` names it."""
        storage = get_event_storage()
        own = dict(everyone[comm.get_rank()])
        own["rank_data_time"] = own.pop("data_time")
        storage.put_scalars(cur_iter=self.iter, **{n: own[n] for n in own if n not in losses})
        if comm.is_main_process():
            means = {name: fmean(each[name] for each in everyone) for name in losses}
            slowest = max(each["data_time"] for each in everyone)
            total = {"data_time": slowest, "total_loss": sum(means.values())}
            storage.put_scalars(cur_iter=self.iter, **total)
            if len(means) > 1:
                storage.put_scalars(cur_iter=self.iter, **means)

    def _largest_gradient(self) -> torch.Tensor:
        """The largest absolute value of any gradient, NaN if one is; 0 where the scaler looks."""
        if self.grad_scaler.is_enabled():
            # Infinite gradients are how it finds its scale: it leaves such a step out by itself.
            return torch.zeros((), device=self.device_type)
        parameters = (p for group in self.optimizer.param_groups for p in group["params"])
        gradients = [p.grad for p in parameters if p.grad is not None]
        return nn.utils.get_total_norm(gradients, norm_type=float("inf"))

    def state_dict(self) -> dict[str, Any]:
        """Return the state to continue from: optimizer, iteration, seed and gradient scale."""
        state = super().state_dict()
        state["seed"] = self.seed
        if self.grad_scaler.is_enabled():
            state["grad_scaler"] = self.grad_scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state over, the seed of the run that is continued included.

        Raises:
            UserError: the run had another optimizer.
        """
        check_continuable(self.optimizer, state_dict["optimizer"])
        super().load_state_dict(state_dict)
        self.seed = state_dict.get("seed", self.seed)
        if self.grad_scaler.is_enabled() and "grad_scaler" in state_dict:
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])


def autocast_precision(enabled: bool, precision: str, device_type: str) -> torch.dtype | None:
    """Translate SOLVER.AMP into the type that autocast computes in; None: no autocast.

    Raises:
        UserError: the precision is unknown, or the device cannot compute in it.
    """
    if precision not in ("float16", "bfloat16"):
        raise UserError(f"SOLVER.AMP.PRECISION must be 'float16' or 'bfloat16', got {precision!r}")
    return autocast_type("SOLVER.AMP.PRECISION", precision, device_type) if enabled else None


def seed_generators(seed: int, iteration: int, rank: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators from three numbers, none negative."""
    state = int(np.random.SeedSequence([seed, iteration, rank]).generate_state(1)[0])
    random.seed(state)
    np.random.seed(state)
    torch.manual_seed(state)


def check_finite(
    losses: Mapping[str, torch.Tensor],
    largest_gradient: torch.Tensor,
    batch: list[dict[str, Any]],
    iteration: int,
    others: Mapping[str, torch.Tensor] | None = None,
    model: nn.Module | None = None,
) -> list[dict[str, float]]:
    """Raise on every process when a loss or a gradient of any process is infinite or NaN.

    All processes must call this together: those with finite losses would otherwise wait for the
    failed ones in the next collective forever. It is one collective, and the host waits once.

    Args:
        losses: scalars by name.
        largest_gradient: scalar, not finite if any gradient is not. The processes share gradients,
            so it tells of a failure of its own only where all losses are finite.
        batch: what this process computed the losses from.
        iteration: counted from 0.
        others: scalars that come along and may have any value.
        model: whose gradients they are, for the message.

    Returns:
        losses and others of each process, by rank.

    Raises:
        NonFiniteLossError: names the losses, or where these are finite the gradients, and the
            images of the processes they come from.
    """
    scalars = {**losses, **(others or {})}
    tensors = (*scalars.values(), largest_gradient)
    rows = of_all_processes(torch.stack([x.detach().float().sum() for x in tensors])).tolist()
    everyone = [dict(zip(scalars, row)) for row in rows]
    bad_losses = [
        [f"{name} = {each[name]}" for name in losses if not math.isfinite(each[name])]
        for each in everyone
    ]
    if not any(bad_losses) and all(math.isfinite(gradient) for *_, gradient in rows):
        return everyone
    images = comm.all_gather(", ".join(_image_name(record) for record in batch))
    sources = [f"(process {rank}; images: {names})" for rank, names in enumerate(images)]
    if any(bad_losses):
        what = "loss"
        found = [f"{', '.join(bad)} {of}" for bad, of in zip(bad_losses, sources) if bad]
    else:
        what, found = "gradient", [f"{_gradients_not_finite(model)} {' '.join(sources)}"]
    raise NonFiniteLossError(
        f"{what} not finite at iteration {iteration}: {'; '.join(found)}. No weight was changed "
        "by this step and no checkpoint was written; look at these images and their boxes, lower "
        "SOLVER.BASE_LR, or enable SOLVER.CLIP_GRADIENTS"
    )


def _gradients_not_finite(model: nn.Module | None) -> str:
    """Such as "head.weight and 3 more"; the last registered is mostly near the losses."""
    parameters = [] if model is None else getattr(model, "module", model).named_parameters()
    names = [n for n, p in parameters if p.grad is not None and not p.grad.isfinite().all()]
    if not names:
        return "of a parameter"
    return names[-1] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _image_name(record: Mapping[str, Any]) -> str:
    return str(record.get("file_name") or record.get("image_id", "without a name"))
