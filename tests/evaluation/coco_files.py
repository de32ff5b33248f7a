"""Small data sets in COCO's format, and detections for them."""

import json

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

from tests.engine.tiny import tiny_config
from vfnet.data import register_coco_format

# Neither starts at 1, both have gaps.
IMAGE_IDS = (5, 11, 200)
CATEGORIES = ((3, "cell"), (7, "plate"), (90, "tray"))
SIZE = (96, 128)


def write_coco(folder, annotations=None, categories=CATEGORIES):
    """Write a json file, with "annotations" unless they are None, and its pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    height, width = SIZE
    rng = np.random.RandomState(0)
    images = []
    for id_ in IMAGE_IDS:
        pixels = rng.randint(0, 255, (height, width, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{id_}.png")
        images.append({"id": id_, "file_name": f"{id_}.png", "width": width, "height": height})
    content = {
        "images": images,
        "categories": [{"id": id_, "name": name} for id_, name in categories],
    }
    if annotations is not None:
        content["annotations"] = annotations
    file = folder / "images.json"
    file.write_text(json.dumps(content))
    return file


def annotation(id_, image_id, category_id, bbox, **values):
    return {
        **{"id": id_, "image_id": image_id, "category_id": category_id, "bbox": list(bbox)},
        **{"area": bbox[2] * bbox[3], "iscrowd": 0},
        **values,
    }


def own_config(output_dir, files, *overrides):
    """Return the tiny config, to be tested on these json files: {name: path}."""
    entries = [[name, str(file), str(file.parent)] for name, file in files.items()]
    cfg = tiny_config(output_dir, "DATASETS.COCO_FORMAT", str(entries), *overrides)
    cfg.DATASETS.TEST = tuple(files)
    cfg.MODEL.VFNET.NUM_CLASSES = 80  # the default, which gives way to the files' classes
    register_coco_format(cfg)
    return cfg


def detections(boxes, scores, classes):
    """Return a model's output for one image; boxes are x, y, width, height."""
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    instances = Instances(SIZE)
    instances.pred_boxes = Boxes(torch.cat((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), dim=1))
    instances.scores = torch.as_tensor(scores, dtype=torch.float32)
    instances.pred_classes = torch.as_tensor(classes, dtype=torch.int64)
    return {"instances": instances}
