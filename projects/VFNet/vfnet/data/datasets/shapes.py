"""The embedded data sets `shapes_train` and `shapes_val`: drawn when they are asked for.

No file is read or written: a record's `file_name` is "shapes://train/000012.png", and a handler
registered with Detectron2's PathManager draws that picture, so everything that reads pictures
through `detectron2.data.detection_utils.read_image` works on them unchanged.
"""

import io
import re
from typing import IO, Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler
from PIL import Image

from .shapes_layout import CLASSES, draw_layout
from .shapes_paint import paint

# Pictures per split.
_COUNTS = {"train": 320, "val": 100}
_PREFIX = "shapes://"
_LAYOUT, _PAINT = 0, 1


def load_shapes(split: str) -> list[dict[str, Any]]:
    """Return the dataset dicts of a split, "train" or "val"; nothing is painted."""
    return [_load_record(split, index) for index in range(_COUNTS[split])]


def register_shapes() -> None:
    """Register both data sets and the handler of their pictures; again is no harm."""
    PathManager.register_handler(ShapesPathHandler(), allow_override=True)
    for split in _COUNTS:
        name = f"shapes_{split}"
        if name not in DatasetCatalog:
            DatasetCatalog.register(name, lambda split=split: load_shapes(split))
        MetadataCatalog.get(name).set(thing_classes=list(CLASSES), evaluator_type="coco")


class ShapesPathHandler(PathHandler):
    """Gives `shapes://SPLIT/NUMBER.png` as an open file that holds a PNG."""

    def _get_supported_prefixes(self) -> list[str]:
        return [_PREFIX]

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO[Any]:
        self._check_kwargs(kwargs)
        if mode != "rb":
            raise OSError(f"{path} is drawn when it is read: it opens in mode rb, not {mode}")
        split, index = _parse(path)
        picture = paint(draw_layout(_seed(split, index, _LAYOUT)), _seed(split, index, _PAINT))
        file = io.BytesIO()
        Image.fromarray(picture).save(file, format="PNG", compress_level=0)
        file.seek(0)
        return file

    def _exists(self, path: str, **kwargs: Any) -> bool:
        try:
            _parse(path)
        except FileNotFoundError:
            return False
        return True

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        return self._exists(path)

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        raise OSError(f"{path} is drawn when it is read and has no file: use PathManager.open")


def _load_record(split: str, index: int) -> dict[str, Any]:
    layout = draw_layout(_seed(split, index, _LAYOUT))
    annotations = [
        {
            "bbox": [float(edge) for edge in shape.box()],
            "bbox_mode": BoxMode.XYXY_ABS,
            "category_id": int(shape.category),
            "iscrowd": 0,
        }
        for shape in layout.shapes
    ]
    return {
        "file_name": f"{_PREFIX}{split}/{index:06d}.png",
        "image_id": index,
        "width": layout.width,
        "height": layout.height,
        "annotations": annotations,
    }


def _seed(split: str, index: int, purpose: int) -> tuple[int, int, int]:
    return list(_COUNTS).index(split), index, purpose


def _parse(path: str) -> tuple[str, int]:
    match = re.fullmatch(rf"{_PREFIX}(\w+)/(\d{{6}})\.png", path)
    if match and match[1] in _COUNTS and int(match[2]) < _COUNTS[match[1]]:
        return match[1], int(match[2])
    counts = ", ".join(f"{split} 0 to {count - 1}" for split, count in _COUNTS.items())
    raise FileNotFoundError(f"{path} is not a picture of the shapes; there are {counts}")
