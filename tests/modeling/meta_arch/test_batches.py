"""Whatever a batch holds, losses and gradients are finite: tiny pictures, 0 to 300 boxes."""

import random

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from tests.engine.tiny import tiny_config
from tests.engine.tiny_family import CONFIGS

DETECTORS = {"vfnet": tiny_config, **CONFIGS}


def random_record(generator: random.Random):
    """A picture of 1 to 300 pixels a side, up to 128 times as long as high, with 0 to 300 boxes."""
    height, width = (round(2 ** generator.uniform(0, 7)) for _ in range(2))
    if generator.random() < 0.1:
        height, width = generator.choice([(1, 1), (1, 300), (300, 1)])
    count = generator.choice([0, 0, 1, 2, 10, 300])
    instances = Instances((height, width))
    instances.gt_boxes = Boxes([random_box(generator, height, width) for _ in range(count)])
    instances.gt_boxes.tensor = instances.gt_boxes.tensor.reshape(-1, 4)
    instances.gt_classes = torch.tensor([i % 3 for i in range(count)], dtype=torch.long)
    image = torch.randint(256, (3, height, width), dtype=torch.uint8)
    return {"image": image, "instances": instances, "height": height, "width": width}


def random_box(generator: random.Random, height: int, width: int):
    """A box inside the picture, from a thousandth of a pixel wide to the whole picture."""
    sides = []
    for size in (width, height):
        length = size * 10 ** generator.uniform(-3, 0) if generator.random() < 0.8 else size
        start = generator.uniform(0, size - length)
        sides.append((start, start + length))
    (x0, x1), (y0, y1) = sides
    return [x0, y0, x1, y1]


@pytest.mark.soak
@pytest.mark.parametrize("name", DETECTORS)
def test_losses_and_gradients_are_finite(name, amount, figure, tmp_path):
    batches = amount(ci=1, soak=1000)
    torch.manual_seed(0)
    model = build_model(DETECTORS[name](tmp_path)).train()
    generator = random.Random(0)
    bad = []
    with EventStorage():
        for number in range(batches):
            batch = [random_record(generator) for _ in range(2)]
            losses = model(batch)
            model.zero_grad()
            sum(losses.values()).backward()
            gradients = [p.grad for p in model.parameters() if p.grad is not None]
            if not all(x.isfinite().all() for x in (*losses.values(), *gradients)):
                bad.append(number)
    figure(f"random batches, {name}", batches, batches - len(bad), len(bad))
    assert not bad
