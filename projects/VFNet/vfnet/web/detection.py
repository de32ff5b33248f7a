"""What a session of the page holds: a picture with all its detections; what is shown of them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import NamedTuple

import numpy as np
from detectron2.structures import Instances

from ..errors import UserError
from ..inspection.star import Stars, check_star_model, find_stars
from ..inspection.star_points import draw_star_points
from ..predictor import Predictor
from ..slicing import Slicing
from ..utils.text import one_line, printable
from ..visualization import draw_boxes
from .detectors import LOWEST_SCORE, Detectors
from .uploads import Upload, read_upload

logger = logging.getLogger(__name__)

# Small pictures are drawn larger, to about this many pixels, so that labels can be read.
_SHOWN_EDGE = 1200


class Request(NamedTuple):
    """What has to be computed again where it changes. slice_size: pixels; 0: the whole picture."""

    upload: Upload | None
    label: str
    slice_size: int = 0


class Found(NamedTuple):
    """All detections of a request, from LOWEST_SCORE on.

    image: (H, W, 3) uint8, BGR. stars: the detections with the points they were read at, once
    somebody wants them. seconds: what the detector took.
    """

    request: Request
    image: np.ndarray
    instances: Instances
    class_names: list[str]
    stars: Stars | None
    seconds: float

    def above(self, score: float) -> Instances:
        """Those of at least this score, best first."""
        return self.instances[self.instances.scores >= score]


class Problem(NamedTuple):
    """Why there are no detections, in a sentence for whoever uses the page."""

    message: str


def update(
    detectors: Detectors,
    request: Request,
    with_stars: bool,
    before: Found | Problem | None,
) -> Found | Problem | None:
    """Compute what a request asks for and the session does not hold yet; None: no picture.

    Of slices there are no stars, nor of detectors that do not read at nine points.
    """
    if request.upload is None:
        return None
    try:
        predictor = detectors.load(request.label)
    except UserError as error:
        # The message may name files of the server.
        logger.error("%s", one_line(f"{request.label}: {error}"))
        return Problem(
            "this detector could not be loaded; the terminal of the page says why. Choose another"
        )
    try:
        found = before
        if not isinstance(found, Found) or found.request != request:
            found = detect(predictor, request, read_upload(request.upload))
        if with_stars and found.stars is None and has_stars(predictor) and not request.slice_size:
            item = predictor.model_input(found.image)
            found = found._replace(stars=find_stars(predictor.model, item))
    except UserError as error:
        return Problem(str(error))
    except Exception:  # no memory for this picture, say: the page goes on
        logger.exception(f"{request.label}, {request.upload.name}")
        return Problem("this went wrong; the terminal of the page says why")
    return found


def detect(predictor: Predictor, request: Request, image: np.ndarray) -> Found:
    """Detect objects in an image (H, W, 3) uint8, BGR."""
    start = time.perf_counter()
    slicing = Slicing(request.slice_size) if request.slice_size else None
    instances = predictor.with_slicing(slicing).predict([image])[0]["instances"]
    seconds = time.perf_counter() - start
    return Found(request, image, instances, predictor.class_names, None, seconds)


def has_stars(predictor: Predictor) -> bool:
    """Whether a detector reads at nine points that can be drawn."""
    try:
        check_star_model(predictor.model)
    except UserError:
        return False
    return True


def draw(found: Found, score: float, with_stars: bool) -> np.ndarray:
    """Draw the detections of at least this score, and their points -> RGB, uint8."""
    instances = found.above(score)
    scale = max(1, round(_SHOWN_EDGE / max(found.image.shape[:2])))
    drawn = draw_boxes(
        found.image[:, :, ::-1],
        instances.pred_boxes.tensor.numpy(),
        instances.pred_classes.tolist(),
        found.class_names,
        instances.scores.tolist(),
        scale,
    )
    if not with_stars or found.stars is None:
        return drawn
    points = found.stars.best(len(found.stars.scores), score).points
    return draw_star_points(drawn, points.cpu().numpy() * scale)


def describe(found: Found, score: float) -> str:
    """Say how many detections of which classes have at least this score."""
    names = [found.class_names[index] for index in found.above(score).pred_classes.tolist()]
    objects = "1 object" if len(names) == 1 else f"{len(names)} objects"
    counts = ", ".join(
        f"{number} x {printable(name)}" for name, number in Counter(names).most_common()
    )
    more = len(found.instances) - len(names)
    return (
        f"{objects} with a score of {score:.2f} or more"
        + (f": {counts}" if counts else "")
        + (f". {more} more from {LOWEST_SCORE:.2f} on" if more else "")
        + f". {found.seconds:.1f} s"
    )
