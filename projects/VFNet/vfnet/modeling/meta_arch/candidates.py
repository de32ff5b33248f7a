"""What dense detectors share between the network and the detections."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import ImageList, Instances
from torch import Tensor
from torch.nn import functional as F

from ...utils.events import put_scalars
from ...utils.whole_batch import of_whole_batch, size_of_whole_batch
from ..inference.candidates import CandidateRule, Candidates, choose_candidates
from ..inference.suppression import Suppression, suppressed
from ..locations import level_numbers, level_sizes, padded_size
from ..matching.targets import Targets


class Decoded(NamedTuple):
    """What N images' R locations of all levels, or anchors, predict of K classes.

    scores: (N R, K) float32, 0 to 1. boxes: (N R, 4), x1, y1, x2, y2 in pixels, not clipped.
    factor: (N R,), what scores are multiplied by once candidates are chosen, or None.
    """

    scores: Tensor
    boxes: Tensor
    factor: Tensor | None = None


class CandidateDetector(DenseDetector):
    """A dense detector that chooses candidates of the whole batch, then suppresses image by image.

    It fulfils `vfnet.modeling.inference.views.ViewDetector`. A subclass sets `candidate_rule` and
    `suppression`, and says by `decode` what its predictions mean.
    """

    candidate_rule: CandidateRule
    suppression: Suppression
    # Boxes end so many pixels before the right and the lower edge of their image.
    box_margin = 0

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Losses of a batch in training, else its detections: see `DenseDetector.forward`.

        In training, what locations stand for that lies in "ignored_boxes", (I, 4) of an image in
        pixels of its resized picture, takes part in no loss, where the detector is built so.
        """
        if not self.training:
            return super().forward(batched_inputs)
        assert "instances" in batched_inputs[0], "training needs the ground truth: instances"
        images, features, predictions = self.predict(batched_inputs)
        # Where the loader left it: it may be assigned on the host while a GPU still predicts.
        gt_instances = [item["instances"] for item in batched_inputs]
        regions = [item.get("ignored_boxes", torch.zeros(0, 4)) for item in batched_inputs]
        return self.forward_training(images, features, predictions, gt_instances, regions)

    def predict(self, batched_inputs: list[dict[str, Any]]) -> tuple[ImageList, list[Tensor], Any]:
        """The network alone -> the batch's images, the head's features and its predictions."""
        images = self.preprocess_image(batched_inputs)
        features = self.features(images.tensor)
        return images, features, self.head(features)

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """As Detectron2's; a part of a batch is padded as the whole batch would be."""
        images = super().preprocess_image(batched_inputs)
        whole = size_of_whole_batch()
        if whole is not None:
            own = images.tensor.shape[-2:]
            size = padded_size(whole, self.backbone.size_divisibility)
            bottom, right = (max(there - here, 0) for there, here in zip(size, own))
            images.tensor = F.pad(images.tensor, (0, right, 0, bottom))
        return images

    def features(self, images: Tensor) -> list[Tensor]:
        """The head's levels of images (N, 3, H, W), normalised and padded."""
        pyramid = self.backbone(images)
        return [pyramid[name] for name in self.head_in_features]

    def forward_training(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: Any,
        gt_instances: list[Instances],
        regions: Sequence[Tensor] = (),
    ) -> dict[str, Tensor]:
        """Losses of a batch, weighted: those of the subclass' `losses`, in float32."""
        targets = self.assign(images, features, predictions, gt_instances, regions)
        with torch.autocast(self.device.type, enabled=False):
            return self.losses(predictions, self.priors(features), targets)

    def assign(
        self,
        images: ImageList,
        features: list[Tensor],
        predictions: Any,
        gt_instances: list[Instances],
        regions: Sequence[Tensor] = (),
    ) -> Targets:
        """What each prediction of the batch learns.

        `regions`: ignored ones of each image, (I, 4) in pixels; of none: no image has one.
        """
        raise NotImplementedError

    def priors(self, features: list[Tensor]) -> Tensor:
        """What predictions are relative to: the points or the anchors of all levels."""
        raise NotImplementedError

    def losses(self, predictions: Any, priors: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Compare predictions with targets -> weighted losses by name.

        `priors`: (R, 2) points or (A, 4) anchors, see `priors`.
        """
        raise NotImplementedError

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: Any
    ) -> list[Instances]:
        """Detections of each image, in pixels of the resized image, best first."""
        candidates = self.candidates(images, features, predictions)
        return [self.suppress(*pair) for pair in zip(candidates, images.image_sizes)]

    def find_candidates(self, batched_inputs: list[dict[str, Any]]) -> list[Candidates]:
        """What suppression chooses from, of each image as it is given, in its pixels."""
        return self.candidates(*self.predict(batched_inputs))

    def candidates(
        self, images: ImageList, features: list[Tensor], predictions: Any
    ) -> list[Candidates]:
        """What suppression chooses from, of each image, in pixels of the resized image."""
        return self.choose(images, features, *self.decode(features, predictions))

    def decode(self, features: list[Tensor], predictions: Any) -> Decoded:
        """From the head's predictions to scores and boxes, image by image, level by level."""
        raise NotImplementedError

    def level_counts(self, features: list[Tensor]) -> list[int]:
        """How many scores and boxes each level has of an image; their sum is R."""
        return [height * width for height, width in level_sizes(features)]

    def choose(
        self,
        images: ImageList,
        features: list[Tensor],
        scores: Tensor,
        boxes: Tensor,
        factor: Tensor | None = None,
    ) -> list[Candidates]:
        """Candidates of each image; the last three are those of `Decoded`."""
        levels = level_numbers(self.level_counts(features), self.device)
        margin = self.box_margin
        limits = [(height - margin, width - margin) for height, width in images.image_sizes]
        return choose_candidates(scores, boxes, levels, limits, self.candidate_rule, factor)

    def suppress(self, candidates: Candidates, image_size: tuple[int, int]) -> Instances:
        """From the candidates of an image of this (H, W) to its detections, best first."""
        return suppressed(candidates, image_size, self.suppression)

    def record_positives(
        self, number: Tensor, iou_sum: Tensor, targets: Targets, signs: Mapping[str, Tensor]
    ) -> None:
        """Write what detectors with one box a positive have in common; `number` is above 0.

        `number` and `iou_sum` are sums over the whole batch; `signs` are those of
        `divergence_signs`.
        """
        self.record(
            {
                "num_pos": number,
                "gts_without_positive": of_whole_batch(targets.gts_without_positive),
                "mean_iou": iou_sum / number,
                **signs,
            }
        )

    def record(self, scalars: Mapping[str, Tensor]) -> None:
        """Write scalars of a training step to the event storage, the detector's name first."""
        name = type(self).__name__.lower()
        put_scalars({f"{name}/{key}": value for key, value in scalars.items()})
