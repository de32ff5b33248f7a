"""A small data set on disk."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def make_coco(tmp_path):
    """A function that writes pictures and a json file; it returns the file and its content."""

    def make(name="data", sizes=((64, 48),) * 4, categories=((3, "cell"), (7, "plate")), **changes):
        root = tmp_path / name
        root.mkdir()
        images, annotations = [], []
        rng = np.random.RandomState(0)
        for i, (width, height) in enumerate(sizes, start=1):
            pixels = rng.randint(0, 255, (height, width, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / f"{i}.png")
            images.append({"id": i, "file_name": f"{i}.png", "width": width, "height": height})
            annotations.append(
                {
                    "id": i,
                    "image_id": i,
                    "category_id": categories[i % len(categories)][0],
                    "bbox": [4.0, 6.0, 20.0, 16.0],
                    "area": 320.0,
                    "iscrowd": 0,
                }
            )
        content = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": id_, "name": name} for id_, name in categories],
        }
        content.update(changes)
        return write_json(root / f"{name}.json", content), content

    return make


def write_json(file: Path, content) -> Path:
    file.write_text(json.dumps(content))
    return file
