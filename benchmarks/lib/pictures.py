"""Pictures and boxes of COCO's kind, drawn at random: as large, as hard to decode, as many boxes.

COCO's train2017 has 118287 pictures in 18 GB, about 160 kB each, most 640x480 or 480x640, and 7.3
annotations with polygons a picture (https://cocodataset.org/#download).
"""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

LONG_EDGE, SHORT_EDGE = 640, 480
BOXES_A_PICTURE = 7.3
CORNERS_OF_A_POLYGON = 22
CLASSES = 80
# How much weaker each octave of noise is; with quality 95 the files are as large as COCO's.
_FALL_OF_AN_OCTAVE = 0.8
_JPEG_QUALITY = 95


def write_coco_like(folder: Path, pictures: int, seed: int = 0) -> Path:
    """Write `pictures` JPEGs, every fourth of them upright, and a json of COCO's format beside.

    Returns:
        the json's path; the pictures lie in `folder`.
    """
    rng = np.random.default_rng(seed)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, pictures + 1):
        height, width = (LONG_EDGE, SHORT_EDGE) if number % 4 == 0 else (SHORT_EDGE, LONG_EDGE)
        name = f"{number:06d}.jpg"
        quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        cv2.imwrite(str(folder / name), random_picture(rng, height, width), quality)
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        for _ in range(max(1, rng.poisson(BOXES_A_PICTURE))):
            annotation = random_annotation(rng, height, width)
            annotations.append({"id": len(annotations) + 1, "image_id": number, **annotation})
    categories = [{"id": n, "name": f"class{n}"} for n in range(1, CLASSES + 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = folder / "coco_like.json"
    path.write_text(json.dumps(content))
    return path


def random_picture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Noise of all scales, (height, width, 3) uint8."""
    longest = max(height, width)
    total = np.zeros((height, width, 3), np.float32)
    cells, amplitude = 2, 1.0
    while cells <= longest:
        shape = (max(cells * height // longest, 1), max(cells * width // longest, 1), 3)
        noise = rng.standard_normal(shape).astype(np.float32)
        total += amplitude * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        cells, amplitude = 2 * cells, amplitude * _FALL_OF_AN_OCTAVE
    return np.clip(128 + 50 * total / total.std(), 0, 255).astype(np.uint8)


def random_annotation(rng: np.random.Generator, height: int, width: int) -> dict[str, Any]:
    """A box of 8 to 320 pixels, small ones as likely as large ones, with an ellipse inside."""
    w, h = np.minimum(np.exp(rng.uniform(np.log(8), np.log(320), 2)), (width, height))
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    angle = np.linspace(0, 2 * np.pi, CORNERS_OF_A_POLYGON, endpoint=False)
    corners = np.stack([x + w * (1 + np.cos(angle)) / 2, y + h * (1 + np.sin(angle)) / 2], axis=1)
    return {
        "category_id": int(rng.integers(1, CLASSES + 1)),
        "bbox": [float(value) for value in (x, y, w, h)],
        "segmentation": [corners.round(2).ravel().tolist()],
        "area": float(np.pi / 4 * w * h),
        "iscrowd": 0,
    }
