"""This project's detectors as SAHI knows them: https://github.com/obss/sahi (tried with 0.12).

from sahi.predict import get_sliced_prediction
from vfnet.sahi_model import VFNetDetectionModel

model = VFNetDetectionModel("vfnet://vfnet_R50_1x", confidence_threshold=0.3)
result = get_sliced_prediction("large.jpg", model, 640, 640, batch_size=4)
"""

from typing import Any

from .predictor import Predictor
from .slicing.sahi_slices import PictureModel

# SAHI alone decides how many slices share a batch.
_ANY_BATCH = 1 << 16


class VFNetDetectionModel(PictureModel):
    """SAHI's model of a detector, or of its exported file.

    Arguments are those of SAHI's `DetectionModel`. `model_path`: weights or an exported file, and
    `config_path`: their config, as `vfnet.predictor.Predictor` takes them. `model`: instead of
    these, a `PictureDetector`. `image_size`: edge that pictures and slices are resized to; None: as
    the config says. Names of classes are the detector's, unless `category_mapping` is given.
    """

    def load_model(self) -> None:
        """Load `model_path`."""
        # SAHI cuts.
        overrides: list[Any] = ["TEST.SLICE.SIZE", 0]
        if self.device is not None:
            overrides += ["MODEL.DEVICE", str(self.device)]
        if self.image_size is not None:
            size = self.image_size
            overrides += ["INPUT.MIN_SIZE_TEST", size, "INPUT.MAX_SIZE_TEST", size]
        self.set_model(
            Predictor(self.model_path, self.config_path, overrides=overrides, batch_size=_ANY_BATCH)
        )
