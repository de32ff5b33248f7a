"""Published numbers and where the weights are: the rows of published_models.csv."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError


class NotInZooError(UserError, RuntimeError):
    """No such config, or no such weights; a RuntimeError as in `detectron2.model_zoo`."""


class PublishedModel(NamedTuple):
    """A row of published_models.csv, as text; "" where nothing was published.

    AP is COCO's, on val2017 and on test-dev, as `page` has it, or the tables of the VFNet paper.
    """

    config: str  # the stem of the config's file, whatever its folder
    parameters: str  # as the reference implementation counts, or derived: tests/parameters.py
    train: str  # image size; [lowest:highest], a range that it is drawn from; {a,b}, a choice
    epochs: str  # "41 + 18 SWA": 18 more, whose averaged weights the numbers belong to
    ap_val: str
    ap50_val: str
    ap75_val: str
    ap_test_dev: str
    fps: str  # images per second on a V100
    page: str  # where the weights are given, by the authors or by mmdet; "": nowhere
    weights: str  # URL of mmdet's checkpoint; "" where it is fetched from `page` by hand
    tables: str  # of the VFNet paper, in which it is compared with others
    change: str  # of an ablation: what it is


def all_rows() -> list[PublishedModel]:
    """A row for each model of `configs/`, detector by detector, and then the ablations."""
    file = Path(__file__).with_name("published_models.csv")
    with open(file, newline="", encoding="utf-8") as stream:
        return [PublishedModel(**row) for row in csv.DictReader(stream)]


def published_models() -> list[PublishedModel]:
    """The models whose weights are published."""
    return [row for row in all_rows() if row.page]


def weights_url(name: str) -> str:
    """The URL of a published checkpoint, in mmdet's format.

    Args:
        name: the stem of a config's file, such as "vfnet_R50_1x"; ".yaml" may follow.

    Raises:
        NotInZooError: there is no such model, or its weights have no URL; the message says which
            have, or where else they are.
    """
    config = name.removesuffix(".yaml")
    models = {model.config: model for model in published_models()}
    if config not in models:
        available = ", ".join(model.config for model in models.values() if model.weights)
        raise NotInZooError(
            f"expected the config of a model with published weights, got {name!r}; "
            f"available: {available}"
        )
    model = models[config]
    if not model.weights:
        raise NotInZooError(
            f"the weights of {config} are published on the authors' Google Drive only: get the "
            f"file by the table of {model.page} and set MODEL.WEIGHTS to mmdet://FILE"
        )
    return model.weights
