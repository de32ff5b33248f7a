"""What dense detectors share between the network and the detections."""

from collections.abc import Mapping
from typing import Any

from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import ImageList, Instances
from torch import Tensor

from ...utils.events import put_scalars
from ..inference.candidates import Candidates
from ..inference.suppression import Suppression, suppressed
from ..matching.targets import Targets


class CandidateDetector(DenseDetector):
    """A dense detector that chooses candidates of the whole batch, then suppresses image by image.

    It fulfils `vfnet.modeling.inference.views.ViewDetector`. A subclass sets `suppression`.
    """

    suppression: Suppression

    def predict(self, batched_inputs: list[dict[str, Any]]) -> tuple[ImageList, list[Tensor], Any]:
        """The network alone -> the batch's images, the head's features and its predictions."""
        images = self.preprocess_image(batched_inputs)
        pyramid = self.backbone(images.tensor)
        features = [pyramid[name] for name in self.head_in_features]
        return images, features, self.head(features)

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
        raise NotImplementedError

    def suppress(self, candidates: Candidates, image_size: tuple[int, int]) -> Instances:
        """From the candidates of an image of this (H, W) to its detections, best first."""
        return suppressed(candidates, image_size, self.suppression)

    def record_positives(self, number: Tensor, iou_sum: Tensor, targets: Targets) -> None:
        """Write what detectors with one box a positive have in common; `number` is above 0."""
        self.record(
            {
                "num_pos": number,
                "gts_without_positive": targets.gts_without_positive,
                "mean_iou": iou_sum / number,
            }
        )

    def record(self, scalars: Mapping[str, Tensor]) -> None:
        """Write scalars of a training step to the event storage, the detector's name first."""
        name = type(self).__name__.lower()
        put_scalars({f"{name}/{key}": value for key, value in scalars.items()})
