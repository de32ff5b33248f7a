"""Scalars, pictures and config of a training for Weights & Biases (https://wandb.ai)."""

import logging
import uuid
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage, EventWriter, get_event_storage

from ...utils.extras import import_extra
from ...utils.files import write_aside

logger = logging.getLogger(__name__)

# In OUTPUT_DIR: the id of the run, by which a continued one goes on with it.
ID_FILE = "wandb_id.txt"


class WandbWriter(EventWriter):
    """Writes to W&B what Detectron2's TensorBoard writer writes, smoothed in the same way.

    It begins with the first numbers. Whatever W&B fails with is one warning, after which the
    training goes on without it.
    """

    def __init__(
        self, cfg: CfgNode, is_continued: Callable[[], bool], window_size: int = 20
    ) -> None:
        """
        Args:
            cfg: the config; OUTPUT_DIR and WANDB are read, and the whole is handed to W&B.
            is_continued: whether the run goes on from a checkpoint, and so with the run in W&B.
            window_size: iterations that are smoothed over.
        """
        self._cfg = cfg
        self._is_continued = is_continued
        self._window_size = window_size
        self._last_write = -1
        self._failed = False
        self._run: Any = None

    def write(self) -> None:
        """Hand on what is new in the event storage."""
        if self._failed:
            return
        try:
            if self._run is None:
                self._run = self._start()
            self._write(get_event_storage())
        except Exception as error:
            self._give_up(error)

    def close(self) -> None:
        """End the run in W&B, which uploads what is left."""
        if self._run is None:
            return
        try:
            self._run.finish()
        except Exception as error:
            self._give_up(error)

    def _start(self) -> Any:
        wandb = import_extra("wandb", "wandb")
        folder, keys = self._cfg.OUTPUT_DIR, self._cfg.WANDB
        run = wandb.init(
            project=keys.PROJECT,
            name=keys.NAME or None,
            id=self._run_id(),
            resume="allow",
            dir=folder,
            config=yaml.safe_load(self._cfg.dump()),
            # The terminal is the training's own: no prompt that waits for ever, no copy of it.
            settings=wandb.Settings(login_timeout=60, console="off", silent=True),
        )
        # W&B's own steps never go back, as those of a run do that continues from a checkpoint.
        run.define_metric("*", step_metric="iteration")
        logger.info(f"Weights & Biases: run {run.id} of {keys.PROJECT} ({run.url or run.dir})")
        return run

    def _run_id(self) -> str:
        file = Path(self._cfg.OUTPUT_DIR, ID_FILE)
        if self._is_continued() and file.is_file():
            return file.read_text(encoding="utf-8").strip()
        run_id = uuid.uuid4().hex
        with write_aside(file) as stream:
            stream.write(f"{run_id}\n".encode())
        return run_id

    def _write(self, storage: EventStorage) -> None:
        wandb = import_extra("wandb", "wandb")
        rows: dict[int, dict[str, Any]] = defaultdict(dict)
        scalars = storage.latest_with_smoothing_hint(self._window_size)
        for name, (value, iteration) in scalars.items():
            if iteration > self._last_write:
                rows[iteration][name] = value
        self._last_write = max([self._last_write, *rows])
        # `put_image` has no other way out: Detectron2's TensorBoard writer does the same.
        for name, image, iteration in storage._vis_data:
            rows[iteration][name] = wandb.Image(np.asarray(image).transpose(1, 2, 0))
        for iteration in sorted(rows):
            self._run.log({**rows[iteration], "iteration": iteration})

    def _give_up(self, error: Exception) -> None:
        self._failed = True
        logger.warning(
            f"Weights & Biases gets no more of this run ({type(error).__name__}: {error}); the "
            "training goes on, and metrics.json has all numbers"
        )
