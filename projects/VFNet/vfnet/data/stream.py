"""The stream of training batches: what it yields follows from (seed, iteration, rank) alone."""

import itertools
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import (
    DatasetFromList,
    build_detection_test_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.build import (
    filter_images_with_only_crowd_annotations,
    trivial_batch_collator,
)
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from detectron2.data.transforms import Augmentation
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from ..errors import UserError
from .bad_pictures import (
    ErrorAsSample,
    RaisingLoader,
    Replaced,
    SkippingLoader,
    skips_bad_pictures,
    substitutes,
)
from .checks.boxes import clean_boxes, describe_nothing, inspect_boxes, objects_of
from .checks.pictures import PictureError
from .mapper import build_mapper
from .workers import WatchedLoader, loader_timeout

logger = logging.getLogger(__name__)

Record = dict[str, Any]
# A sample: the index of its record, and its number in the stream of this process.
Sample = tuple[int, int]


def build_train_loader(
    cfg: CfgNode,
    *,
    seed: int = 0,
    start_iter: int = 0,
    records: list[Record] | None = None,
) -> Iterable[list[dict[str, Any]]]:
    """Build the endless training loader of this process.

    Batch k is the same however many workers load it, and the same whether the loader started at
    iteration 0 or, with `start_iter`, at k: a continued run sees what the uninterrupted one saw.

    Args:
        cfg: the config; DATASETS.TRAIN, DATALOADER, INPUT, MODEL.DEVICE and
            SOLVER.IMS_PER_BATCH are read.
        seed: 0 or more, the same in every process.
        start_iter: the iteration to begin at.
        records: the dataset dicts of DATASETS.TRAIN, where they are loaded already.

    Raises:
        UserError: no usable box; an unknown sampler; a batch that the processes cannot share
            evenly; bad boxes (`clean_boxes`); a negative DATALOADER.TIMEOUT. While iterating: a
            picture that cannot be used, and a worker that gives nothing for that time.
    """
    if records is None:
        records = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=False)
    records = _usable_records(cfg, records)
    groups = _groups(cfg, records)
    sampler = _build_sampler(cfg, records, seed)
    batches = TrainingBatches(sampler, images_per_process(cfg), groups, start_iter)
    dataset = SeededDataset(
        DatasetFromList(records, copy=False),
        build_mapper(cfg, is_train=True),
        seed,
        groups if skips_bad_pictures(cfg) else None,
    )
    loader = DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        timeout=loader_timeout(cfg),
        collate_fn=trivial_batch_collator,
        # A GPU copies from pinned memory by itself; here a thread of the loader pins it.
        pin_memory=cfg.MODEL.DEVICE.startswith("cuda") and torch.cuda.is_available(),
        # Its own, because a loader draws a number when it starts, and a continued run starts its
        # loader at another time.
        generator=torch.Generator(),
    )
    return RaisingLoader(len(records), WatchedLoader(loader))


def count_training_images(cfg: CfgNode) -> int:
    """How many pictures of DATASETS.TRAIN are trained on, after filtering: an epoch.

    Raises:
        UserError: as `build_train_loader`.
    """
    records = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=False)
    return len(_usable_records(cfg, records))


def build_test_loader(
    cfg: CfgNode, dataset_name: str, resize: Augmentation | None = None
) -> Iterable[list[dict[str, Any]]]:
    """Build Detectron2's test loader with this project's mapper, which does not wait for ever.

    `resize`: instead of what INPUT says. Errors: see `WatchedLoader`.
    """
    records = get_detection_dataset_dicts(dataset_name, filter_empty=False)
    return _in_order(cfg, records, build_mapper(cfg, is_train=False, resize=resize))


def build_validation_loader(
    cfg: CfgNode, dataset_name: str
) -> Iterable[list[dict[str, Any]]] | None:
    """Build a test loader whose pictures have the ground truth that training would give them.

    As in training, crowds and boxes without a pixel in the picture are no ground truth. One picture
    a batch; each is on one process.

    Returns:
        None: the data set has no annotation.
    """
    records = get_detection_dataset_dicts(dataset_name, filter_empty=False)
    if not any(record.get("annotations") for record in records):
        return None
    records = [{"annotations": [], **record} for record in records]
    # What is wrong with the boxes was said before the run.
    boxes_inside, _ = inspect_boxes(records)
    return _in_order(cfg, boxes_inside, build_mapper(cfg, is_train=False, keep_truth=True))


def _in_order(
    cfg: CfgNode, records: list[Record], mapper: Callable[[Record], dict]
) -> Iterable[list[dict[str, Any]]]:
    """Detectron2's test loader, a picture at a time, each on one process."""
    skips = skips_bad_pictures(cfg)
    loader = build_detection_test_loader(
        records,
        mapper=ErrorAsSample(mapper) if skips else mapper,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
    loader.timeout = loader_timeout(cfg)
    watched = WatchedLoader(loader)
    return SkippingLoader(watched) if skips else watched


def images_per_process(cfg: CfgNode) -> int:
    """Return the share of SOLVER.IMS_PER_BATCH that each process of the job takes.

    Raises:
        UserError: the processes cannot share the batch evenly.
    """
    total, processes = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    if total < 1 or total % processes:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH is {total}: it has to be a positive multiple of the number of "
            f"processes, {processes}"
        )
    return total // processes


@dataclass
class TrainingBatches:
    """Batches of samples, without end; skipping to `start_iter` is index arithmetic only.

    A batch holds samples of one group, and is yielded when its group has enough of them, as by
    Detectron2's `AspectRatioGroupedDataset`.
    """

    indices: Iterable[int]  # of records, without end; iterating again begins again
    batch_size: int
    groups: Sequence[int]  # per record
    start_iter: int = 0  # batches to skip

    def __iter__(self) -> Iterator[list[Sample]]:
        return itertools.islice(self._all_batches(), self.start_iter, None)

    def _all_batches(self) -> Iterator[list[Sample]]:
        waiting: dict[int, list[Sample]] = {}
        for number, index in enumerate(self.indices):
            batch = waiting.setdefault(self.groups[index], [])
            batch.append((index, number))
            if len(batch) == self.batch_size:
                del waiting[self.groups[index]]
                yield batch


class SeededDataset(Dataset):
    """Mapped records whose random draws follow from (seed, rank, number of the sample).

    Where `groups`, of each record, are given, a picture that cannot be used is replaced by the
    first usable of its `substitutes`, which follow from the same numbers.
    """

    def __init__(
        self,
        records: Sequence[Record],
        mapper: Callable[[Record], dict],
        seed: int,
        groups: Sequence[int] | None = None,
    ) -> None:
        self.groups = groups
        self.records = records
        self.mapper = mapper
        self.seed = seed
        # Kept, because a worker process has no process group to ask.
        self.rank = comm.get_rank()

    def __getitem__(self, sample: Sample) -> Any:
        """Return the mapped record, or the UserError that mapping it raised (`RaisingLoader`)."""
        index, number = sample
        entropy = (self.seed, self.rank, number)
        first = self._map(index, entropy)
        if self.groups is None or not isinstance(first, PictureError):
            return first
        problems = [first]
        for attempt, other in enumerate(substitutes(index, self.groups, entropy), start=1):
            found = self._map(other, (*entropy, attempt))
            if not isinstance(found, PictureError):
                return found if isinstance(found, UserError) else Replaced(found, problems)
            problems.append(found)
        return UserError(f"no picture of DATASETS.TRAIN can be used; the first: {first}")

    def _map(self, index: int, entropy: tuple[int, ...]) -> Any:
        with seeded_generators(entropy):
            try:
                return self.mapper(self.records[index])
            except UserError as error:
                return error


@contextmanager
def seeded_generators(entropy: tuple[int, ...]) -> Iterator[None]:
    """Seed the CPU generators of random, NumPy and torch; afterwards restore what they were.

    Restored, so that loading in the training process leaves the training's own draws alone.
    """
    states = random.getstate(), np.random.get_state()
    words = np.random.SeedSequence(entropy).generate_state(3)
    with torch.random.fork_rng(devices=[]):
        random.seed(int(words[0]))
        np.random.seed(words[1])
        # Not torch.manual_seed, which would seed the GPU's generators too.
        torch.default_generator.manual_seed(int(words[2]))
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def _usable_records(cfg: CfgNode, records: list[Record]) -> list[Record]:
    for record in records:
        if "annotations" not in record:
            raise UserError(f"{record['file_name']} has no annotations: training needs them")
    cleaned = clean_boxes(records, strict=cfg.DATASETS.STRICT)
    if not any(map(objects_of, cleaned)):
        raise UserError(describe_nothing(cfg.DATASETS.TRAIN, records))
    if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
        return filter_images_with_only_crowd_annotations(cleaned)  # logs how many
    if empty := sum(not record["annotations"] for record in cleaned):
        logger.info(f"{empty} of {len(cleaned)} training images have no box, and are trained on")
    return cleaned


def _build_sampler(cfg: CfgNode, records: list[Record], seed: int) -> Sampler[int]:
    name = cfg.DATALOADER.SAMPLER_TRAIN
    if name == "TrainingSampler":
        return TrainingSampler(len(records), seed=seed)
    if name == "RepeatFactorTrainingSampler":
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            records, cfg.DATALOADER.REPEAT_THRESHOLD, sqrt=cfg.DATALOADER.REPEAT_SQRT
        )
        return RepeatFactorTrainingSampler(factors, seed=seed)
    raise UserError(
        'DATALOADER.SAMPLER_TRAIN has to be "TrainingSampler" or "RepeatFactorTrainingSampler"; '
        f"got {name!r}"
    )


def _groups(cfg: CfgNode, records: list[Record]) -> list[int]:
    if not cfg.DATALOADER.ASPECT_RATIO_GROUPING:
        return [0] * len(records)
    return [int(record["width"] > record["height"]) for record in records]
