#!/usr/bin/env python3
"""Detect objects with an exported ONNX file; needs onnxruntime, Pillow and numpy alone.

python demo/onnx_predict.py exported/vfnet_R50_1x.onnx picture.jpg
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

model, picture = Path(sys.argv[1]), sys.argv[2]
about = json.loads(model.with_suffix(".json").read_text(encoding="utf-8"))
image = ImageOps.exif_transpose(Image.open(picture)).convert("RGB")
resize, edges = about["resize"], sorted(image.size)
if about["size"]:  # the file takes one size, into which the picture is fitted
    scale = min(about["size"][0] / image.height, about["size"][1] / image.width)
elif resize["shortest_edge"]:
    scale = min(resize["shortest_edge"] / edges[0], resize["longest_edge"] / edges[1])
else:
    scale = 1
width, height = (max(1, int(side * scale + 0.5)) for side in image.size)
pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)).transpose(2, 0, 1)

images = np.zeros((about["batch"], 3, *(about["size"] or (height, width))), dtype=np.uint8)
images[0, :, :height, :width] = pixels  # the rest is padding, and images that are not there
sizes = np.array([[height, width]] * about["batch"], dtype=np.int64)
session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
boxes, scores, classes, number = session.run(None, {"images": images, "sizes": sizes})

back = np.array([image.width / width, image.height / height] * 2)
for box, score, kind in zip(boxes[0] * back, scores[0], classes[0, : number[0]]):
    x1, y1, x2, y2 = box
    print(f"{about['class_names'][kind]} {score:.3f} at {x1:.1f} {y1:.1f} {x2:.1f} {y2:.1f}")
