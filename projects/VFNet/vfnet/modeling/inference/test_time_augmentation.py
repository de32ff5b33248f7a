"""Test-time augmentation: an image is looked at several times, its detections are chosen once."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.modeling import detector_postprocess
from detectron2.structures import Instances
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ...errors import UserError
from .candidates import Candidates
from .views import as_view_detector


class DetectorWithTTA(nn.Module):
    """Looks at each image at several scales, plain and mirrored; called as the detector itself.

    The candidates of all views are brought back to the original image and suppressed together, by
    the model's own suppression; no scores are averaged (as the reference implementation does, by
    its `vfnet_r50_fpn_1x_coco_tta.py`). Views run one at a time, so that memory is bounded by the
    largest one, and without gradients.

    For a model with soft-NMS, VFNet's author advises plain NMS here: NMS_TYPE "nms" and
    NMS_THRESH_TEST 0.65 (issue 16 of hyz-xmaster/VarifocalNet).
    """

    def __init__(self, model: nn.Module, resizes: Sequence[T.Augmentation], flip: bool = True):
        """
        Args:
            model: see `as_view_detector`; possibly wrapped for several processes.
            resizes: one for each scale; each is applied to the original image. See
                `vfnet.data.transforms.views.build_resizes`.
            flip: whether each scale is looked at a second time, mirrored left to right.

        Raises:
            UserError: the model gives no candidates.
        """
        super().__init__()
        self.model = model.module if isinstance(model, DistributedDataParallel) else model
        as_view_detector(self.model)
        self.resizes = list(resizes)
        self.flip = flip
        # Whoever restores this module's mode later restores the model's.
        self.train(model.training)

    @torch.no_grad()
    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        """Detect objects.

        Args:
            batched_inputs: as the model takes them, but for "image", (C, H, W), which is as it was
                read, not resized. "height", "width": of the result; H and W if left out.

        Returns:
            for each image {"instances": Instances}, in pixels of the original, best first.

        Raises:
            UserError: in training mode.
        """
        if self.training:
            raise UserError(
                "test-time augmentation expects evaluation mode, got training mode; call .eval()"
            )
        return [{"instances": self._detect(item)} for item in batched_inputs]

    def _detect(self, item: dict[str, Any]) -> Instances:
        height = item.get("height", item["image"].shape[1])
        width = item.get("width", item["image"].shape[2])
        detector, found = as_view_detector(self.model), []
        for view, mirrored in self._views(item["image"]):
            (candidates,) = detector.find_candidates([{"image": view}])
            found.append(to_original(candidates, view.shape[1:], (height, width), mirrored))
        candidates = Candidates(*(torch.cat(parts) for parts in zip(*found)))
        instances = detector.suppress(candidates, (height, width))
        return detector_postprocess(instances, height, width)

    def _views(self, image: Tensor) -> Iterator[tuple[Tensor, bool]]:
        """Each view (C, h, w) of an image (C, H, W), and whether it is mirrored."""
        pixels = _as_read(image)
        for resize in self.resizes:
            resized = resize.get_transform(pixels).apply_image(pixels)
            view = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))
            yield view, False
            if self.flip:
                yield view.flip(2), True


def to_original(
    candidates: Candidates,
    view_size: tuple[int, int],
    original_size: tuple[int, int],
    mirrored: bool,
) -> Candidates:
    """Bring the candidates of a view back to the original image.

    Args:
        candidates: in pixels of the view.
        view_size, original_size: (H, W). Either axis has its own scale, because the sizes of views
            are rounded.
        mirrored: whether the view was mirrored left to right, after it was resized.
    """
    (view_height, view_width), (height, width) = view_size, original_size
    x1, y1, x2, y2 = candidates.boxes.unbind(dim=1)
    if mirrored:
        x1, x2 = view_width - x2, view_width - x1
    boxes = torch.stack((x1, y1, x2, y2), dim=1)
    scale = boxes.new_tensor([width / view_width, height / view_height] * 2)
    return candidates._replace(boxes=boxes * scale)


def _as_read(image: Tensor) -> np.ndarray:
    """(C, H, W) to (H, W, C), as bytes where the pixels are whole numbers from 0 to 255."""
    pixels = image.cpu()
    # Detectron2's predictor hands over floats, which would not be resized by PIL.
    as_bytes = pixels.to(torch.uint8)
    if torch.equal(as_bytes.to(pixels.dtype), pixels):
        pixels = as_bytes
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
