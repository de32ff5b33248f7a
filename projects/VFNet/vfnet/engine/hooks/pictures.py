"""Pictures of ground truth and predictions side by side, into the event storage: VIS_PERIOD."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.engine import HookBase, hooks
from detectron2.evaluation import inference_context
from detectron2.structures import Instances
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import nn
from torch.utils.hooks import RemovableHandle

from ...config import detector_node
from ...data import build_mapper, read_picture
from ...data.checks.boxes import is_crowd
from ...data.checks.pictures import PictureError
from ...data.mapper import boxes_of
from ...data.stream import seeded_generators
from ...visualization import draw_boxes

# Of a batch, and of the test set.
_MOST_PICTURES = 4
# Of one picture, the best: with more of them an untrained detector's picture shows nothing.
_MOST_PREDICTIONS = 20
# Between two pictures, in pixels.
_GAP = 4


class _Truth(NamedTuple):
    """Ground truth of one picture: (N, 4) xyxy in pixels, N class indices."""

    boxes: np.ndarray
    classes: list[int]


class TrainingPictures(HookBase):
    """Draw what a detector is taught and what it predicts, on what it was just given.

    At the iterations at which Detectron2's own detectors draw (`iteration % period == 0`), on the
    first process, its part of the batch: the pictures as the network sees them, augmented. What is
    predicted, by the weights after the step, leaves the run as it would be without.
    """

    def __init__(
        self, model: nn.Module, period: int, input_format: str, class_names: Sequence[str]
    ) -> None:
        """
        Args:
            model: what is trained, not wrapped for several processes.
            period: iterations between pictures.
            input_format: INPUT.FORMAT, of what the model is given.
            class_names: one for each class.
        """
        self._model = model
        self._period = period
        self._format = input_format
        self._names = class_names
        self._batch: list[dict[str, Any]] = []
        self._handle: RemovableHandle | None = None

    def before_step(self) -> None:
        """Where pictures are due, keep the batch that the model is about to be given."""
        if comm.is_main_process() and self.trainer.iter % self._period == 0:
            self._handle = self._model.register_forward_pre_hook(self._keep)

    def _keep(self, _: nn.Module, arguments: tuple[Any, ...]) -> None:
        self._batch = list(arguments[0])[:_MOST_PICTURES]

    def after_step(self) -> None:
        """Predict and draw that batch."""
        if not comm.is_main_process():
            # Detectron2's GeneralizedRCNN draws its proposals on all processes; one has writers.
            get_event_storage().clear_images()
        if self._handle is None:
            return
        self._handle.remove()
        batch, self._batch, self._handle = self._batch, [], None
        with _undisturbed(self._model):
            # Without "height" and "width", boxes stay in the pixels of what was given.
            found = self._model([{"image": record["image"]} for record in batch])
        for index, (record, output) in enumerate(zip(batch, found)):
            image = convert_image_to_rgb(record["image"].permute(1, 2, 0), self._format)
            taught = record["instances"]
            truth = _Truth(_array(taught.gt_boxes.tensor), taught.gt_classes.tolist())
            _put_pair(f"training/{index}", image, truth, output["instances"], self._names)


class TestPictures:
    """Draws the same few pictures of the first test set each time that it is called.

    So that one scrolls through a run; on one process alone, with the test's own resizing.
    """

    __test__ = False  # no test, pytest

    def __init__(self, cfg: CfgNode, model: nn.Module) -> None:
        """`model`: not wrapped for several processes."""
        self._model = model
        self._dataset = cfg.DATASETS.TEST[0]
        self._names = class_names_of_run(cfg)
        self._mapper = build_mapper(cfg, is_train=False)
        self._records: list[dict[str, Any]] = []

    def __call__(self) -> None:
        if not self._records:
            records = DatasetCatalog.get(self._dataset)
            self._records = records[:: max(1, len(records) // _MOST_PICTURES)][:_MOST_PICTURES]
        for index, record in enumerate(self._records):
            try:
                given = self._mapper(record)
            except PictureError:  # the evaluation has named it, and goes on without it or ends
                continue
            with _undisturbed(self._model):
                (output,) = self._model([given])
            annotations = [a for a in record.get("annotations", ()) if not is_crowd(a)]
            truth = _Truth(boxes_of(annotations), [a["category_id"] for a in annotations])
            image = read_picture(record["file_name"], "RGB")
            _put_pair(f"test/{index}", image, truth, output["instances"], self._names)


def build_training_pictures(cfg: CfgNode, model: nn.Module) -> list[HookBase]:
    """The hook that VIS_PERIOD asks for; `model`: not wrapped for several processes."""
    if not cfg.VIS_PERIOD:
        return []
    names = class_names_of_run(cfg)
    return [TrainingPictures(model, cfg.VIS_PERIOD, cfg.INPUT.FORMAT, names)]


def build_test_pictures(cfg: CfgNode, model: nn.Module) -> list[HookBase]:
    """The hook that VIS_PERIOD asks for where there are evaluations; `model`: not wrapped."""
    if not (cfg.VIS_PERIOD and cfg.DATASETS.TEST):
        return []
    # One process draws; the hook's barrier is for all.
    draw = TestPictures(cfg, model) if comm.is_main_process() else lambda: None
    return [hooks.EvalHook(cfg.TEST.EVAL_PERIOD, draw)]


def class_names_of_run(cfg: CfgNode) -> list[str]:
    """One name for each class: the config's, the training data's, or its number."""
    node = detector_node(cfg)
    names = list(node.CLASS_NAMES)
    if not names and cfg.DATASETS.TRAIN:
        names = list(MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).get("thing_classes", ()))
    return names + [str(index) for index in range(len(names), node.NUM_CLASSES)]


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Predict so that a training goes on as if nothing had been: modes and generators are kept."""
    with seeded_generators((0,)), inference_context(model), torch.no_grad():
        yield


def _put_pair(
    name: str, image: np.ndarray, truth: _Truth, found: Instances, names: Sequence[str]
) -> None:
    """Put a picture (H, W, 3) RGB twice into the event storage: left the truth, right the best."""
    best = found[found.scores.argsort(descending=True)[:_MOST_PREDICTIONS]]
    boxes, classes = _array(best.pred_boxes.tensor), best.pred_classes.tolist()
    image = image.astype(np.uint8)
    gap = np.full((image.shape[0], _GAP, 3), 255, np.uint8)
    pair = (
        draw_boxes(image, truth.boxes, truth.classes, names),
        gap,
        draw_boxes(image, boxes, classes, names, best.scores.tolist()),
    )
    get_event_storage().put_image(name, np.concatenate(pair, axis=1).transpose(2, 0, 1))


def _array(boxes: torch.Tensor) -> np.ndarray:
    return boxes.detach().cpu().numpy()
