"""Is every value of a config of the kind and size that its key takes?

yacs compares types only, not those within lists, and takes None for anything. Here a value has to
be of its default's kind: a finite number, a text of one line, or a list of such, as deep. The
tables hold what no default shows.
"""

import functools
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from detectron2.config import CfgNode

from ..errors import UserError
from ..utils.text import is_name, printable
from .keys import get_cfg, leaves

# Characters, as in the longest path.
_LONGEST_TEXT = 4096
_LONGEST_SHOWN = 200
# The largest number of a key that has no bound of its own.
_LARGEST = 2**31 - 1

# Lists of more than one kind, whose elements are checked where they are read.
_MIXED = ("DATASETS.COCO_FORMAT", "MODEL.TIMM.KWARGS", "TEST.EXPECTED_RESULTS")

# Examples for keys whose default is empty or None; such lists that are not here hold texts.
_EXAMPLES: dict[str, Any] = {
    "INPUT.MAX_SIZE_TRAIN_RANGE": (480, 960),
    "SOLVER.WEIGHT_DECAY_BIAS": 0.0001,
    "TEST.AUG.MAX_SIZES": (1333,),
    "TEST.KEYPOINT_OKS_SIGMAS": [0.1],
}

# Lists that may be empty though their default is not.
_MAY_BE_EMPTY = ("SOLVER.STEPS",)

# Lists that have as many elements as their default.
_FIXED_LENGTHS = (
    *("MODEL.RESNETS.DEFORM_ON_PER_STAGE", "MODEL.*.BBOX_REG_WEIGHTS"),
    *("INPUT.CROP.SIZE", "INPUT.CUTOUT.NUM_HOLES"),
)

# The lowest and the highest number that a key takes; the first pattern that fits counts. Other keys
# take 0 to _LARGEST, and down to -_LARGEST where their default has a negative number.
_BOUNDS: tuple[tuple[str, float, float], ...] = (
    # A network of more would take minutes to build, or more memory than there is.
    ("MODEL.*.NUM_CONV*", 0, 100),
    ("MODEL.*.NUM_FC", 0, 100),
    ("MODEL.*.NUM_CLASSES", 1, 100_000),
    # Detectron2's deformable layers take memory even on "meta".
    ("MODEL.*CHANNELS", 1, 4096),
    ("MODEL.*_DIM", 1, 16_384),
    ("MODEL.RESNETS.*GROUP*", 1, 16_384),
    ("MODEL.RES2NET.*", 1, 1024),
    ("MODEL.GFL.REG_MAX", 1, 1024),
    ("MODEL.*.POOLER_RESOLUTION", 1, 256),
    ("MODEL.TIMM.DROP_PATH_RATE", 0, 0.99),
    # Processes, and rectangles in a picture.
    ("DATALOADER.NUM_WORKERS", 0, 1000),
    ("INPUT.CUTOUT.NUM_HOLES", 0, 10_000),
    # What is divided by.
    ("MODEL.PIXEL_STD", 1e-6, _LARGEST),
    ("MODEL.TIMM.SIZE_DIVISIBILITY", 1, 16_384),
    ("SOLVER.CHECKPOINT_PERIOD", 1, _LARGEST),
)

# The texts that keys take whose readers take any.
_CHOICES: dict[str, tuple[str, ...]] = {
    "INPUT.RANDOM_FLIP": ("none", "horizontal", "vertical"),
    "INPUT.FORMAT": ("BGR", "RGB", "L", "YUV-BT.601"),
}


def check_values(cfg: CfgNode) -> None:
    """Check the values of all keys that Detectron2 and this project have.

    Raises:
        UserError: names the first key that cannot have its value, and says what it takes.
    """
    for key, default in _defaults():
        value = functools.reduce(lambda node, name: node[name], key.split("."), cfg)
        if value != default and not _fits(key, value, default):
            raise UserError(f"{key} has to be {_describe(key, default)}; got {_shown(value)}")


@functools.cache
def _defaults() -> list[tuple[str, Any]]:
    return list(leaves(get_cfg()))


def _fits(key: str, value: Any, default: Any) -> bool:
    example = _EXAMPLES.get(key, default)
    if not isinstance(example, (list, tuple)):
        return _element_fits(key, value, example)
    if not isinstance(value, (list, tuple)) or key in _MIXED:
        return isinstance(value, (list, tuple))
    elements = list(_flat(value))
    return (
        _depth(value) <= max(_depth(example), 1)
        and all(_element_fits(key, element, _element(example)) for element in elements)
        and (len(value) == len(example) or not _any_fits(_FIXED_LENGTHS, key))
        and (bool(elements) or not default or key in _MAY_BE_EMPTY)
    )


def _element_fits(key: str, value: Any, example: Any) -> bool:
    if isinstance(example, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(example, bool)
    if isinstance(example, str):
        return isinstance(value, str) and value in _CHOICES.get(key, [value]) and _is_text(value)
    lowest, highest = _bounds(key)
    # NaN lies between no two numbers.
    return isinstance(value, (int, float)) and lowest <= value <= highest


def _is_text(value: str) -> bool:
    # "${" is where OmegaConf, which `default_setup` reads a config with, takes another key's value.
    return len(value) <= _LONGEST_TEXT and is_name(value) and "${" not in value


@functools.cache
def _bounds(key: str) -> tuple[float, float]:
    for pattern, lowest, highest in _BOUNDS:
        if fnmatchcase(key, pattern):
            return lowest, highest
    default = dict(_defaults())[key]
    negative = any(isinstance(leaf, (int, float)) and leaf < 0 for leaf in _flat(default))
    return -_LARGEST if negative else 0, _LARGEST


def _describe(key: str, default: Any) -> str:
    """What a key takes, in words."""
    example = _EXAMPLES.get(key, default)
    if not isinstance(example, (list, tuple)):
        return _describe_element(key, example)
    count = f"{len(example)} " if _any_fits(_FIXED_LENGTHS, key) else ""
    nested = " of lists" if _depth(example) > 1 else ""
    filled = "" if not default or key in _MAY_BE_EMPTY else ", and not empty"
    each = _describe_element(key, _element(example))
    return f"a list{nested}{filled}, of {count}elements that are {each} each"


def _describe_element(key: str, example: Any) -> str:
    if isinstance(example, bool):
        return "True or False"
    if key in _CHOICES:
        return f"one of {', '.join(_CHOICES[key])}"
    if isinstance(example, str):
        return f"a text of one line, of at most {_LONGEST_TEXT} characters and without ${{"
    lowest, highest = _bounds(key)
    return f"a number from {lowest} to {highest}"


def _element(example: Sequence[Any]) -> Any:
    return next(_flat(example), "")


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _depth(value: Any) -> int:
    """0 for what is no list, 1 for a list of such, and so on."""
    if not isinstance(value, (list, tuple)):
        return 0
    return 1 + max(map(_depth, value), default=0)


def _any_fits(patterns: Sequence[str], key: str) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _shown(value: Any) -> str:
    try:
        return printable(repr(value))[:_LONGEST_SHOWN]
    except ValueError:  # more digits than Python writes
        return "a number of thousands of digits"
