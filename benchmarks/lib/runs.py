"""What is timed of a detector: the parts of inference and of training, and both as a whole.

Between parts a GPU is waited for, which costs a little; the runs of a whole have no such marks. Any
`DenseDetector` or `GeneralizedRCNN` can be run, with any backbone that has a `bottom_up`.
"""

import gc
import itertools
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import torch
from detectron2.modeling import GeneralizedRCNN, detector_postprocess
from detectron2.structures import ImageList, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from vfnet.engine import StepTrainer
from vfnet.modeling.meta_arch.dense import LocationDetector
from vfnet.solver import build_optimizer
from vfnet.utils.precision import PRECISIONS
from vfnet.utils.quiet import ignore_known_warnings

from .device import autocast
from .memory import PeakWatch, resident_peak, restart_resident_peak
from .models import Subject, Workload, build_batch, build_detector
from .report import Value
from .timing import Run, Samples, Stopwatch, Watch, measure, stopwatch_of, summarise
from .variants import Agreement, agreement, apply_variant

# Phase -> the name of its run as a whole.
PHASES = {"inference": "whole inference", "training": "whole training step"}


class Bench:
    """A model, its batch and its optimizer, with the runs of each phase.

    The learning rate is 0, so that every repeat computes the same.
    """

    def __init__(self, subject: Subject, workload: Workload) -> None:
        self.model = build_detector(subject.detector, workload)
        self.batch = build_batch(workload)
        self.device_type = torch.device(workload.device).type
        self.precision = workload.precision
        # The inside of a graph cannot be timed.
        self.has_inside = subject.variant in ("", *PRECISIONS)
        # Of a variant: how its detections differ from the plain model's.
        self.agreement: Agreement | None = None
        if subject.variant:
            expected = self.detections()
            self._apply(subject.variant)
            self.agreement = agreement(expected, self.detections())  # compiles, too
        self.optimizer = build_optimizer(workload.config(), self.model)
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0
        self.trainer = StepTrainer(
            self.model,
            itertools.repeat(self.batch),
            self.optimizer,
            device_type=self.device_type,
            precision=self.precision,
            accum_steps=workload.config().SOLVER.ACCUM_STEPS,
        )

    def _apply(self, variant: str) -> None:
        if variant in PRECISIONS:
            self.precision = PRECISIONS[variant]
            return
        images = self.model.preprocess_image(self.batch).tensor
        apply_variant(variant, self.model, images, self.precision)

    def runs(self, phase: str) -> dict[str, Run]:
        """The runs of "inference" or "training": in parts, and as a whole."""
        if phase == "inference":
            return {"parts": self.inference_parts, "whole": self.inference}
        return {"parts": self.training_parts, "whole": self.training_step}

    def autocast(self) -> torch.autocast:
        return autocast(self.device_type, self.precision)

    def detections(self) -> list[Instances]:
        """What the model finds in each picture."""
        self.model.eval()
        return self._detect()

    @torch.no_grad()
    def _detect(self) -> list[Instances]:
        with self.autocast():
            return [result["instances"] for result in self.model(self.batch)]

    def inference(self, watch: Watch) -> None:
        """From pictures to detections, as Detectron2 calls a model."""
        self.model.eval()
        watch.skip()
        self._detect()
        watch.mark(PHASES["inference"])

    @torch.no_grad()
    def inference_parts(self, watch: Watch) -> None:
        """The same, part by part."""
        self.model.eval()
        watch.skip()
        with self.autocast():
            if isinstance(self.model, GeneralizedRCNN):
                results, _ = self.two_stages(watch)
            else:
                results = self.model.forward_inference(*self.forward(watch))
            for result, record in zip(results, self.batch):
                detector_postprocess(result, record["height"], record["width"])
        watch.mark("post-processing")

    def training_step(self, watch: Watch) -> None:
        """A step of this project's trainer: with its check for NaN and its scalars."""
        self.model.train()
        with EventStorage() as self.trainer.storage:
            self.trainer.iter = 0
            watch.skip()
            self.trainer.run_step()
            watch.mark(PHASES["training"])

    def training_parts(self, watch: Watch) -> None:
        """The same, part by part, without the trainer's own work."""
        self.model.train()
        scaler = self.trainer.grad_scaler
        with EventStorage():
            watch.skip()
            with self.autocast():
                losses = self.losses(watch)
            watch.total("forward")
            scaler.scale(sum(losses.values())).backward()
            watch.mark("backward")
            scaler.step(self.optimizer)
            scaler.update()
            self.optimizer.zero_grad()
            watch.mark("optimizer")

    def pyramid(self, watch: Watch) -> tuple[ImageList, dict[str, Tensor]]:
        """The batch's images and the backbone's outputs."""
        model = self.model
        images = model.preprocess_image(self.batch)
        watch.mark("preprocessing")
        if self.has_inside:
            with _bottom_up_marked(model.backbone, watch):
                features = model.backbone(images.tensor)
            watch.mark("neck")
            watch.total("backbone and neck", ["backbone", "neck"])
        else:
            features = model.backbone(images.tensor)
            watch.mark("backbone and neck")
        return images, features

    def forward(self, watch: Watch) -> tuple[Any, list[Tensor], Any]:
        """Images, features and predictions, as the first lines of `DenseDetector.forward`."""
        images, pyramid = self.pyramid(watch)
        features = [pyramid[name] for name in self.model.head_in_features]
        predictions = self.model.head(features)
        watch.mark("head")
        return images, features, predictions

    def two_stages(
        self, watch: Watch, gt_instances: list[Instances] | None = None
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Detections of an R-CNN before post-processing or, with ground truth, its losses."""
        model = self.model
        images, features = self.pyramid(watch)
        proposals, proposal_losses = model.proposal_generator(images, features, gt_instances)
        watch.mark("proposals")
        found, losses = model.roi_heads(images, features, proposals, gt_instances)
        watch.mark("regions")
        return found, {**losses, **proposal_losses}

    def losses(self, watch: Watch) -> dict[str, Tensor]:
        """Losses of the batch; of a `LocationDetector`, assignment and losses are apart."""
        model = self.model
        gt_instances = [record["instances"] for record in self.batch]
        if isinstance(model, GeneralizedRCNN):
            return self.two_stages(watch, [gt.to(model.device) for gt in gt_instances])[1]
        images, features, predictions = self.forward(watch)
        if not isinstance(model, LocationDetector):
            gt_instances = [instances.to(model.device) for instances in gt_instances]
            losses = model.forward_training(images, features, predictions, gt_instances)
            watch.mark("assignment and losses")
            return losses
        targets = model.assign(images, features, predictions, gt_instances)
        watch.mark("assignment")
        with torch.autocast(self.device_type, enabled=False):
            losses = model.losses(predictions, model.points(features), targets)
        watch.mark("losses")
        watch.total("assignment and losses", ["assignment", "losses"])
        return losses


@contextmanager
def _bottom_up_marked(backbone: nn.Module, watch: Watch) -> Iterator[None]:
    """Let `watch` know where the network below the pyramid ends, which the pyramid calls."""
    bottom_up = next(m for name, m in backbone.named_modules() if name.endswith("bottom_up"))
    handle = bottom_up.register_forward_hook(lambda *call: watch.mark("backbone"))
    try:
        yield
    finally:
        handle.remove()


def time_benches(
    benches: Mapping[str, Bench], device: str, phase: str, repeats: int, warm_up: int
) -> Samples:
    """Seconds of each part of a phase, of each model in turns."""
    runs = {
        f"{title}/{name}": run
        for title, bench in benches.items()
        for name, run in bench.runs(phase).items()
    }
    samples: Samples = {}
    for key, parts in measure(runs, repeats, warm_up, stopwatch_of(device)).items():
        samples.setdefault(key.rpartition("/")[0], {}).update(parts)
    return samples


def with_images_a_second(samples: Samples, phase: str, batch: int) -> dict[str, dict[str, Value]]:
    """Median and quartiles of each part's seconds, and the images a second of the whole phase."""
    return {
        title: {**parts, "images a second": batch / parts[PHASES[phase]].median}
        for title, parts in summarise(samples).items()
    }


def memory_of_subjects(
    subjects: Mapping[str, Subject], workload: Workload, phase: str
) -> dict[str, dict[str, int]]:
    """Peak memory of each model in bytes, each in a process of its own; see `peak_memory`."""
    # What this process timed before may still hold the device's memory, which these need.
    gc.collect()
    torch.cuda.empty_cache()
    peaks = {}
    for title, subject in subjects.items():
        context = get_context("spawn")
        with ProcessPoolExecutor(1, context, initializer=ignore_known_warnings) as pool:
            peaks[title] = pool.submit(peak_memory, subject, workload, phase).result()
    return peaks


def peak_memory(subject: Subject, workload: Workload, phase: str) -> dict[str, int]:
    """Peak memory of a phase in this process, in bytes.

    On CUDA, what tensors held at most while each part ran, and "reserved": what the process had
    taken from the device, into which alone the inside of a captured graph counts. On the CPU, what
    the whole process held, Python and libraries included: "process before" the phase, and the phase
    as a whole.
    """
    bench = Bench(subject, workload)
    runs = bench.runs(phase)
    if bench.device_type == "cuda":
        torch.cuda.empty_cache()
        watch = PeakWatch(workload.device)
        for _ in range(2):  # the optimizer's momentum is there from its first step on
            for run in runs.values():
                run(watch)
        return {**watch.peaks, "reserved": torch.cuda.memory_reserved(workload.device)}
    restart_resident_peak()
    before = resident_peak()
    for _ in range(2):
        runs["whole"](Stopwatch())
    return {"process before": before, PHASES[phase]: resident_peak()}
