"""A predictor that computes nothing: detections that follow from a picture's pixels."""

import torch
from detectron2.structures import Boxes, Instances

NAMES = ["nut", "$5_$", "红细胞"]


def detections(image):
    """Two boxes in an image (H, W, 3), the score of one of which tells images apart."""
    height, width = image.shape[:2]
    boxes = torch.tensor([[1.0, 2.0, width / 2, height / 2], [0.0, 0.0, width, height]])
    scores = torch.tensor([0.9, float(image.mean()) / 255])
    return Instances(
        (height, width),
        pred_boxes=Boxes(boxes),
        scores=scores,
        pred_classes=torch.tensor([0, 2]),
    )


class MeanPredictor:
    """`stop_at`: a KeyboardInterrupt comes instead of that picture, counted from 0."""

    class_names = NAMES
    category_ids = None
    pictures_ahead = 2

    def __init__(self, stop_at=None, **settings):
        self.settings = settings
        self.seen = 0
        self._stop_at = stop_at

    def predict(self, images):
        results = []
        for image in images:
            if self.seen == self._stop_at:
                raise KeyboardInterrupt
            self.seen += 1
            results.append({"instances": detections(image)})
        return results
