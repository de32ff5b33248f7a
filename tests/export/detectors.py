"""Every detector that can be exported, tiny, with weights that detect something."""

import json

import numpy as np
import torch
from detectron2.modeling import BACKBONE_REGISTRY, Backbone, build_model
from PIL import Image
from torch import nn

from tests.engine.tiny import tiny_config
from tests.engine.tiny_family import CONFIGS
from vfnet.config import detector_node
from vfnet.export.graph import DetectorGraph


def with_keys(config, *keys):
    return lambda folder, *overrides: config(folder, *keys, *overrides)


DCN = (
    *("MODEL.VFNET.DEFORM_LAST_CONV", "True"),
    *("MODEL.RESNETS.DEPTH", "50", "MODEL.RESNETS.RES2_OUT_CHANNELS", "32"),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", "8"),
    *("MODEL.RESNETS.DEFORM_ON_PER_STAGE", "[False, False, False, True]"),
    *("MODEL.RESNETS.DEFORM_MODULATED", "True"),
)
BFP = (
    *("MODEL.BACKBONE.NAME", "build_bfp_backbone"),
    *("MODEL.BFP.BACKBONE", "build_vfnet_resnet_fpn_backbone"),
)
DETECTORS = {
    "vfnet": tiny_config,
    "vfnet_dcn": with_keys(tiny_config, *DCN),
    "atss": CONFIGS["atss"],
    "gfl": CONFIGS["gfl"],
    "gflv2": CONFIGS["gflv2"],
    "foveabox": CONFIGS["foveabox"],
    "foveabox_aligned": with_keys(CONFIGS["foveabox"], "MODEL.FOVEABOX.ALIGN", "True"),
    "reppoints": CONFIGS["reppoints"],
    "retinanet": CONFIGS["retinanet"],
    "libra_retinanet": with_keys(CONFIGS["retinanet"], *BFP),
}


@BACKBONE_REGISTRY.register()
class TwoConvolutions(Backbone):
    """The levels p4 and p6 by a convolution each: a backbone that is exported in no time."""

    def __init__(self, cfg, input_shape):
        super().__init__()
        self._out_features = ["p4", "p6"]
        self._out_feature_strides = {"p4": 16, "p6": 64}
        self._out_feature_channels = dict.fromkeys(self._out_features, 32)
        self.p4, self.p6 = nn.Conv2d(3, 32, 16, 16), nn.Conv2d(32, 32, 4, 4)

    size_divisibility = 64

    def forward(self, x):
        p4 = self.p4(x).relu()
        return {"p4": p4, "p6": self.p6(p4).relu()}


def tiny_detector(name, folder, *, candidates=None, two_levels=False, backbone="", **keys):
    """A config and its detector, with the same weights at each call.

    Args:
        candidates: CANDIDATE_TEST. two_levels: of the pyramid instead of five, which takes less
            time to export. backbone: another one, by its name. keys: others of the detector's node.
    """
    cfg = DETECTORS[name](folder)
    node = detector_node(cfg)
    node.CLASS_NAMES = ["a", "b", "c"]
    cfg.MODEL.BACKBONE.NAME = backbone or cfg.MODEL.BACKBONE.NAME
    if two_levels:
        node.IN_FEATURES = ["p4", "p6"]
        cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[24, 40], [80, 120]]
        cfg.MODEL.FOVEABOX.SCALE_RANGES = [[1, 64], [32, 512]]
        cfg.MODEL.FOVEABOX.BASE_EDGES = [16, 64]
    if candidates is not None:
        node.CANDIDATE_TEST = candidates
    for key, value in keys.items():
        node[key] = value
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    scores = getattr(model.head, "cls_pred", None) or model.head.cls_score
    nn.init.normal_(scores.weight, std=0.5)
    nn.init.constant_(scores.bias, -1.0)
    # Boxes smaller than the pictures.
    if hasattr(model.head, "box_pred"):
        nn.init.constant_(model.head.box_pred.bias, -2.5)
    if hasattr(model.head, "distribution_pred"):
        model.head.distribution_pred.bias.data = (-model.head.bins).repeat(4)
    for layer in model.modules():  # deformable layers start without displacement
        offset = getattr(layer, "offset", None)
        if isinstance(offset, nn.Conv2d):
            nn.init.normal_(offset.weight, std=0.05)
    return cfg, model


def tiny_graph(name, folder, *, raw=False, **keys):
    """A config and the graph of its detector."""
    cfg, model = tiny_detector(name, folder, **keys)
    return cfg, DetectorGraph(model, rgb=cfg.INPUT.FORMAT == "RGB", raw=raw)


def saved_detector(name, folder, **arguments):
    """The config of a tiny detector whose weights lie in a file; arguments as `tiny_detector`."""
    cfg, model = tiny_detector(name, folder, **arguments)
    cfg.MODEL.WEIGHTS = str(folder / "model.pth")
    torch.save({"model": model.state_dict()}, cfg.MODEL.WEIGHTS)
    return cfg, model


def write_pictures(folder, *sizes):
    """PNG files of `pixels` -> their paths."""
    files = []
    for i, image in enumerate(pixels(*sizes)):
        files.append(str(folder / f"picture{i}.png"))
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(files[-1])
    return files


def write_own_detections(folder, detector, files):
    """A json in COCO's format whose boxes are what a detector finds in pictures of its own size."""
    images, annotations = [], []
    for number, file in enumerate(files):
        image = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)
        with torch.no_grad():
            found = detector([{"image": image}])[0]["instances"]
        height, width = image.shape[1:]
        images.append({"id": number, "file_name": file, "height": height, "width": width})
        for (x0, y0, x1, y1), kind in zip(found.pred_boxes.tensor.tolist(), found.pred_classes):
            box = [x0, y0, x1 - x0, y1 - y0]
            annotation = {"id": len(annotations) + 1, "image_id": number, "bbox": box}
            annotation |= {"category_id": int(kind), "area": box[2] * box[3], "iscrowd": 0}
            annotations.append(annotation)
    categories = [{"id": i, "name": name} for i, name in enumerate("abc")]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = folder / "own.json"
    path.write_text(json.dumps(content))
    return path


def pixels(*sizes, seed=0):
    """Random images (3, H, W) uint8 of these sizes, in blocks, so that they hold edges."""
    generator = torch.Generator().manual_seed(seed)
    images = []
    for height, width in sizes:
        blocks = torch.rand(1, 3, height // 8 + 1, width // 8 + 1, generator=generator) * 255
        large = nn.functional.interpolate(blocks, scale_factor=8)[0, :, :height, :width]
        images.append(large.round().to(torch.uint8))
    return images
