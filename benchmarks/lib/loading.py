"""Measuring the training loader: images a second by workers, and what an image's time goes into."""

import itertools
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from detectron2.config import CfgNode

from vfnet.data import build_train_loader, images_per_process
from vfnet.errors import UserError

from .report import Value
from .timing import Run, Samples, Watch, measure, summarise

# What loading an image consists of in the process that does it.
LOADING = ("record", "read and decode", "resize and flip", "tensor and boxes")


def time_loader(
    cfg: CfgNode, workers: Sequence[int], batches: int, repeats: int, skipped: int = 2
) -> Samples:
    """Seconds that the training loader takes for an image, at each number of workers, in turns.

    A loader is built anew for each repeat, so that no other one's workers run meanwhile.

    Args:
        cfg: DATASETS.TRAIN, registered, and what `build_train_loader` reads.
        workers: processes; 0: the training process itself loads.
        batches: timed after the first `skipped` ones, which the workers' start is part of.

    Raises:
        UserError: no batch; and as `build_train_loader`.
    """
    if batches < 1:
        raise UserError(f"expected at least 1 batch to time, got {batches}")
    runs: dict[str, Run] = {
        _name(number): partial(_load, _with_workers(cfg, number), batches, skipped)
        for number in workers
    }
    images = batches * images_per_process(cfg)
    return {
        name: {part: [s / images for s in seconds] for part, seconds in parts.items()}
        for name, parts in measure(runs, repeats).items()
    }


def with_rates(samples: Samples) -> dict[str, dict[str, Value]]:
    """Median and quartiles of an image's seconds, and the images a second of the median."""
    return {
        name: {"an image": parts["an image"], "images a second": 1 / parts["an image"].median}
        for name, parts in summarise(samples).items()
    }


def profile_loading(cfgs: dict[str, CfgNode], images: int) -> Samples:
    """Seconds of each part of loading an image in one process, without handing it to another.

    Args:
        cfgs: variants, one after the other, because taking turns they would find each other's
            pictures in the cache; each as `time_loader` takes it.
        images: to load with each, after two that are not counted.

    Returns:
        parts as in `LOADING`, and "an image", their sum.
    """
    samples: Samples = {}
    for name, cfg in cfgs.items():
        samples.update(measure({name: _loading(cfg)}, images, warm_up=2))
    return samples


def _loading(cfg: CfgNode) -> Run:
    dataset = _dataset(build_train_loader(cfg, seed=0))
    indices = itertools.cycle(range(len(dataset.records)))
    mapper, augmentations = dataset.mapper, dataset.mapper.augmentations

    def run(watch: Watch) -> None:
        def marked(aug_input: Any) -> Any:
            watch.mark("read and decode")
            transforms = augmentations(aug_input)
            watch.mark("resize and flip")
            return transforms

        mapper.augmentations = marked
        index = next(indices)
        watch.skip()
        record = dataset.records[index]
        watch.mark("record")
        mapper(record)
        watch.mark("tensor and boxes")
        watch.total("an image")

    return run


def _dataset(loader: Iterable[Any]) -> Any:
    return loader.loader.dataset  # type: ignore[attr-defined]


def _name(workers: int) -> str:
    return f"{workers} worker{'' if workers == 1 else 's'}"


def _with_workers(cfg: CfgNode, workers: int) -> CfgNode:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = workers
    return cfg


def _load(cfg: CfgNode, batches: int, skipped: int, watch: Watch) -> None:
    stream = iter(build_train_loader(cfg, seed=0))
    for _ in range(skipped):
        next(stream)
    watch.skip()
    for _ in range(batches):
        next(stream)
    watch.mark("an image")
    del stream  # ends the workers
