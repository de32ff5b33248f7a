"""The published models: their numbers and where their weights are, from published_models.csv."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError

AUTHORS_PAGE = "https://github.com/hyz-xmaster/VarifocalNet"


class NotInZooError(UserError, RuntimeError):
    """No such config, or no such weights; a RuntimeError as in `detectron2.model_zoo`."""


class PublishedModel(NamedTuple):
    """A row of published_models.csv, as text: see that page of the authors for its numbers."""

    config: str  # the config's name without .yaml
    train: str  # image size, or the range that it is drawn from
    epochs: str  # "41 + 18 SWA": 18 more, whose averaged weights the numbers belong to
    ap_val: str  # COCO val2017
    ap_test_dev: str
    fps: str  # images per second on a V100
    weights: str  # URL of mmdet's checkpoint; "" where only the authors' page has it


def published_models() -> list[PublishedModel]:
    """All published models, in the order of the authors' page."""
    file = Path(__file__).with_name("published_models.csv")
    with open(file, newline="", encoding="utf-8") as stream:
        return [PublishedModel(**row) for row in csv.DictReader(stream)]


def weights_url(name: str) -> str:
    """The URL of a published checkpoint, in mmdet's format.

    Args:
        name: of a config, such as "vfnet_R50_1x"; ".yaml" may follow.

    Raises:
        NotInZooError: there is no such model, or its weights have no URL; the message says which
            have, or where else they are.
    """
    config = name[: -len(".yaml")] if name.endswith(".yaml") else name
    models = {model.config: model for model in published_models()}
    if config not in models:
        available = ", ".join(model.config for model in models.values() if model.weights)
        raise NotInZooError(
            f"expected the config of a model with published weights, got {name!r}; "
            f"available: {available}"
        )
    if not models[config].weights:
        raise NotInZooError(
            f"the weights of {config} are published on the authors' Google Drive only: get the "
            f"file by the table of {AUTHORS_PAGE} and set MODEL.WEIGHTS to mmdet://FILE"
        )
    return models[config].weights
