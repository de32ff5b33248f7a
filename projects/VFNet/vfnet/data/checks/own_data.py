"""All that is checked of own data before a run."""

from collections.abc import Collection, Mapping
from itertools import chain
from typing import Any

from ...errors import UserError
from .boxes import describe_bad_boxes
from .duplicates import describe_repeated, describe_shared, picture_keys
from .oddities import describe_crowds, describe_excess, describe_unit
from .pictures import check_images

Records = list[dict[str, Any]]


def check_own_data(
    loaded: Mapping[str, Records],
    train: Collection[str],
    test: Collection[str],
    detections_per_image: int,
    strict: bool,
    skip_bad_pictures: bool = False,
) -> list[str]:
    """Check pictures, boxes and records of the data sets that a run reads.

    Args:
        loaded: the dataset dicts, by the name of the data set.
        train, test: the names of the data sets that are trained and tested on.
        detections_per_image: TEST.DETECTIONS_PER_IMAGE.
        strict: DATASETS.STRICT.
        skip_bad_pictures: whether DATASETS.ON_BAD_IMAGE is "skip".

    Returns:
        one line for each thing that is allowed and probably not meant.

    Raises:
        UserError: pictures that cannot be used (`check_images`); with `strict` also bad boxes to
            test on (`describe_bad_boxes`; those to train on: `clean_boxes`), boxes in another unit
            than pixels, and pictures that have several records or are both trained and tested on.
    """
    lines = []
    for name, records in loaded.items():
        lines += _named(name, check_images(records, skip_bad_pictures))
    trained = {name: loaded[name] for name in train if name in loaded}
    tested = {name: loaded[name] for name in test if name in loaded}
    for name, records in tested.items():
        if not any(record["annotations"] for record in records):
            lines.append(
                f"{name} has no annotations, so no AP will be computed: its detections are "
                "written as a file to submit"
            )
        lines += _named(name, describe_bad_boxes(records, strict))
        lines += _named(name, describe_excess(records, detections_per_image))
    for name, records in loaded.items():
        lines += _named(name, describe_crowds(records))
    mistakes = _mistakes(trained, tested)
    if mistakes and strict:
        raise UserError(
            f"DATASETS.STRICT: {'. '.join(mistakes)}. Fix the data, or set DATASETS.STRICT False "
            "to go on with it"
        )
    return lines + mistakes


def _mistakes(train: Mapping[str, Records], test: Mapping[str, Records]) -> list[str]:
    """What a strict run refuses, a line each."""
    lines = []
    for name, records in {**train, **test}.items():
        lines += _named(name, describe_unit(records))
    learned = list(chain.from_iterable(train.values()))
    everything = chain(learned, *test.values())
    keys = picture_keys(record["file_name"] for record in everything)
    lines += _named(", ".join(train), describe_repeated(learned, keys))
    for name, records in test.items():
        if name not in train:
            lines += _named(name, describe_repeated(records, keys))
        lines += _named(name, describe_shared(records, learned, keys))
    return lines


def _named(name: str, text: str) -> list[str]:
    return [f"{name}: {text}"] if text else []
