"""The json beside an exported file: what the file takes, gives, and was made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UserError
from ..utils.files import sha256


class ResizeRule(NamedTuple):
    """How a picture is resized.

    method: "pil" or "cv2", bilinear: INPUT.RESIZE. shortest_edge, longest_edge: in pixels, as
    Detectron2's `ResizeShortestEdge`; 0: the picture stays as it is. Where the file has a fixed
    size they play no part: the picture becomes as large as that holds.
    """

    method: str
    shortest_edge: int
    longest_edge: int


class Description(NamedTuple):
    """What an exported file is.

    format: "onnx" or "openvino". precision: "float32" or "int8".
    detector, config: META_ARCHITECTURE, and the name of the config.
    class_names: of each class, by its number.
    input_format: INPUT.FORMAT of the detector, "RGB" or "BGR"; the file itself takes RGB.
    raw: it gives scores and boxes of all locations instead of detections.
    batch, size: pictures at a time, and their padded (height, width); None: any.
    resize: see `ResizeRule`.
    candidates, score_threshold, topk, iou_threshold, max_detections: what decides about detections;
        None where raw.
    weights, weights_sha256: MODEL.WEIGHTS, and the hash of that file.
    versions: of what made it. files: name -> sha256 of each file beside the json.
    checked: how far it was from the detector in torch, on how many pictures, of int8 before it
        became that; None: not compared.
    scored: a data set, and AP on it of the detector in torch and of the file; None: not scored.
    """

    format: str
    precision: str
    detector: str
    config: str
    class_names: list[str]
    input_format: str
    raw: bool
    batch: int
    size: tuple[int, int] | None
    resize: ResizeRule
    candidates: str | None
    score_threshold: float | None
    topk: int | None
    iou_threshold: float | None
    max_detections: int | None
    weights: str
    weights_sha256: str
    versions: dict[str, str]
    files: dict[str, str]
    checked: dict[str, float] | None
    scored: dict[str, Any] | None = None


# What a file raises that is no json, or another json.
_DAMAGED = (
    *(AttributeError, KeyError, OSError, RecursionError),
    *(TypeError, ValueError),
)


def description_path(file: Path) -> Path:
    """Where the json of an exported file lies."""
    return file.with_suffix(".json")


def write_description(description: Description, path: Path) -> None:
    """Write the json, with the hashes of the files of its name that lie beside it."""
    files = sorted(path.parent.glob(f"{path.stem}.*"))
    hashes = {file.name: sha256(str(file)) for file in files if file != path}
    values = description._replace(files=hashes)._asdict()
    values["resize"] = description.resize._asdict()
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_description(file: Path) -> Description:
    """Read the json beside an exported file, and compare the files with it.

    Raises:
        UserError: the json is missing or not one of these, or a file is missing or another one.
    """
    path = description_path(file)
    if not path.is_file():
        raise UserError(
            f"there is no {path}, which says what {file.name} takes and gives: keep the files that "
            "tools/export.py wrote together"
        )
    description = _parse(path)
    if file.name not in description.files:
        raise UserError(f"{path} describes {', '.join(description.files)}, not {file.name}")
    for name, digest in description.files.items():
        other = path.parent / name
        if not other.is_file():
            raise UserError(f"{other} is missing, which belongs to {file}: copy it beside, too")
        if sha256(str(other)) != digest:
            raise UserError(
                f"{other} is not the file that {path} describes (it was changed, or not copied to "
                "its end): export it again or copy it again"
            )
    return description


def _parse(path: Path) -> Description:
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
        values["resize"] = ResizeRule(**values["resize"])
        values["size"] = None if values["size"] is None else tuple(values["size"])
        description = Description(**values)
        if any(Path(name).name != name for name in [*description.files]) or not all(
            isinstance(text, str)
            for text in [*description.class_names, *description.files.values()]
        ):
            raise ValueError("files and class names that are no names")
        return description
    except _DAMAGED as error:
        raise UserError(
            f"expected the json that tools/export.py writes in {path}: {error}; export again"
        ) from error
