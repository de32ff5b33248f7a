"""What is benchmarked: detectors with the same classes and pictures, and realistic scores.

Random weights alone would make two things unlike a trained detector: activations that double from
block to block, and scores among which either nothing or everything passes the threshold. Hence the
fixed batch norms take the statistics of the batch, and the last layer of the scores is scaled and
shifted so that a given number of candidates passes.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode, instantiate
from detectron2.data import transforms as T
from detectron2.data.detection_utils import read_image
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import GeneralizedRCNN, build_model
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn
from torch.nn import functional as F

from vfnet.checkpoint import VFNetCheckpointer
from vfnet.checkpoint.fit import class_layer
from vfnet.config import detector_node, load_config
from vfnet.errors import UserError

RETINANET = "COCO-Detection/retinanet_R_50_FPN_1x.yaml"
FCOS = "COCO-Detection/fcos_R_50_FPN_1x.py"
BASELINES = {"retinanet": RETINANET, "fcos": FCOS}

Batch = list[dict[str, Any]]


class Workload(NamedTuple):
    """What all models of a benchmark are given.

    config_file, overrides: of the VFNet; its classes and its optimizer are everybody's.
    weights: of the VFNet; "": random ones.
    image_size: (H, W) in pixels, before padding. image: a picture's file; "": random ones.
    boxes: ground truths of each picture.
    candidates: (location, class) pairs of a picture that pass the threshold of scores.
    precision: what autocast computes in; None: float32, without autocast.
    """

    config_file: str
    overrides: tuple[str, ...] = ()
    weights: str = ""
    device: str = "cpu"
    image_size: tuple[int, int] = (800, 1333)
    image: str = ""
    batch: int = 1
    boxes: int = 30
    candidates: int = 1000
    precision: torch.dtype | None = None
    seed: int = 0

    def config(self) -> CfgNode:
        cfg = load_config(self.config_file, self.overrides)
        cfg.MODEL.DEVICE = self.device
        cfg.MODEL.WEIGHTS = self.weights
        # `precision` decides, for training and inference and for all models alike.
        node = detector_node(cfg)
        if "PRECISION_TEST" in node:
            node.PRECISION_TEST = "float32"
        return cfg

    def subjects(
        self, variants: Sequence[str] = (), baselines: Sequence[str] = ()
    ) -> dict[str, "Subject"]:
        """What is compared, by the name that it has in tables: the VFNet comes first."""
        title = Path(self.config_file).stem
        return {
            title: Subject("vfnet"),
            **{f"{title}, {variant}": Subject("vfnet", variant) for variant in variants},
            **{Path(BASELINES.get(name, name)).stem: Subject(name) for name in baselines},
        }


class Subject(NamedTuple):
    """One of the models that a benchmark compares.

    detector: a name that `build_detector` takes.
    variant: the way that it runs in inference, see `apply_variant`; "": as it is.
    """

    detector: str
    variant: str = ""


class Detector(NamedTuple):
    """A detector, and what is needed to adjust its scores.

    score_layer: the last convolution of the scores, or of an R-CNN the linear layer.
    missing: what the network predicts, and the logits (N, channels, R) of all places -> how much
        must be added to all logits of classes, so that each just passes.
    classes: the channels that are classes.
    """

    model: nn.Module
    score_layer: nn.Conv2d | nn.Linear
    missing: Callable[[Any, Tensor], Tensor]
    classes: slice = slice(None)


def build_detector(name: str, workload: Workload) -> nn.Module:
    """Build "vfnet", "retinanet", "fcos" or a yaml's model with random weights, made realistic.

    A VFNet with weights of its own is left as it is.
    """
    torch.manual_seed(workload.seed)
    if name.endswith(".yaml"):
        return build_detector("vfnet", workload._replace(config_file=name, weights=""))
    cfg = workload.config()
    builders = {"vfnet": _configured, "retinanet": _retinanet, "fcos": _fcos}
    detector = builders[name](cfg)
    detector.model.eval()
    if name == "vfnet" and workload.weights:
        VFNetCheckpointer(detector.model, whole_detector=True).load(workload.weights)
    else:
        batch = build_batch(workload)
        fit_norms(detector.model, batch)
        spread_scores(detector, batch, workload.candidates)
    return detector.model


def _configured(cfg: CfgNode) -> Detector:
    model = build_model(cfg)
    layer = model.get_submodule(class_layer(model.state_dict())[0].rpartition(".")[0])
    threshold = detector_node(cfg).SCORE_THRESH_TEST
    if isinstance(model, GeneralizedRCNN):
        return Detector(model, layer, partial(_missing_of_softmax, threshold), slice(-1))
    return Detector(model, layer, partial(_missing_of_sigmoid, threshold))


def _missing_of_sigmoid(threshold: float, predictions: Any, logits: Tensor) -> Tensor:
    bar = _logit(threshold)
    if qualities := getattr(predictions, "qualities", None):  # the score is a product
        quality = torch.cat([level.flatten(2) for level in qualities], dim=2).sigmoid()
        bar = torch.logit((bar.sigmoid() / quality).clamp(max=1))
    return bar.to(logits) - logits


def _missing_of_softmax(threshold: float, _: Any, logits: Tensor) -> Tensor:
    # With s added, e^(z + s) has to be more than the threshold's share of the sum of all, of which
    # the background stays as it is.
    powers = logits.exp()
    classes, background = powers[:, :-1], logits[:, -1:]
    excess = classes / max(threshold, 1e-4) - classes.sum(dim=1, keepdim=True)
    # Where it is not positive, other classes alone are too much.
    return background - excess.clamp(min=0).log()


def _retinanet(cfg: CfgNode) -> Detector:
    own = _detectron2_config(RETINANET)
    own.MODEL.RETINANET.NUM_CLASSES = detector_node(cfg).NUM_CLASSES
    own.MODEL.DEVICE = cfg.MODEL.DEVICE
    threshold = own.MODEL.RETINANET.SCORE_THRESH_TEST
    model = build_model(own)
    return Detector(model, model.head.cls_score, partial(_missing_of_sigmoid, threshold))


def _fcos(cfg: CfgNode) -> Detector:
    own = _detectron2_config(FCOS).model
    own.num_classes = detector_node(cfg).NUM_CLASSES
    model = instantiate(own).to(cfg.MODEL.DEVICE)
    # Its loss of boxes raises under autocast.
    model.forward_training = partial(_in_float32, model.forward_training)

    def missing(predictions: Any, logits: Tensor) -> Tensor:
        # A score is the root of class probability times centerness.
        centerness = torch.cat([level.flatten(2) for level in predictions[2]], dim=2).sigmoid()
        return torch.logit((model.test_score_thresh**2 / centerness).clamp(max=1)) - logits

    return Detector(model, model.head.cls_score, missing)


def _detectron2_config(name: str) -> Any:
    from detectron2 import model_zoo  # warns when it is imported, of what report_errors keeps back

    # Its base holds Python's tuples, of which fvcore would warn on each reading.
    logging.getLogger("fvcore.common.config").setLevel(logging.ERROR)
    return model_zoo.get_config(name)


def _in_float32(
    losses: Callable, images: Any, features: list[Tensor], predictions: Any, gt_instances: Any
) -> dict[str, Tensor]:
    predictions = [[level.float() for level in levels] for levels in predictions]
    with torch.autocast(features[0].device.type, enabled=False):
        return losses(images, features, predictions, gt_instances)


def _logit(probability: float) -> Tensor:
    return torch.logit(torch.tensor(max(probability, 1e-4)))  # a threshold may be 0


@torch.no_grad()
def features_of(model: nn.Module, batch: Batch) -> list[Tensor]:
    """What the head of a dense detector is given."""
    features = model.backbone(model.preprocess_image(batch).tensor)
    return [features[name] for name in model.head_in_features]


def _predict(model: nn.Module, batch: Batch) -> Any:
    """Run the network; what the head of a dense detector predicts."""
    if isinstance(model, GeneralizedRCNN):
        return model.inference(batch)
    return model.head(features_of(model, batch))


@torch.no_grad()
def fit_norms(model: nn.Module, batch: Batch) -> None:
    """Give every batch norm, frozen or not, the mean and variance of what it gets."""
    norms = [m for m in model.modules() if isinstance(m, (nn.BatchNorm2d, FrozenBatchNorm2d))]
    handles = [norm.register_forward_pre_hook(_take_statistics) for norm in norms]
    for norm in norms:
        # In training it is called, where otherwise a convolution might compute in its place.
        norm.train()
    _predict(model, batch)
    model.eval()
    for handle in handles:
        handle.remove()


def _take_statistics(norm: nn.Module, inputs: tuple[Tensor]) -> None:
    dims = (0, 2, 3)
    norm.running_mean.copy_(inputs[0].mean(dims))
    norm.running_var.copy_(inputs[0].var(dims, unbiased=False))


@torch.no_grad()
def spread_scores(detector: Detector, batch: Batch, candidates: int) -> None:
    """Let `candidates` scores of a picture, of all classes and places, pass the threshold.

    Each channel of the last layer gets mean 0 and standard deviation 1 over the batch, and all
    classes one bias, under which as many logits as wanted lie above what is needed.
    """
    layer, outputs = detector.score_layer, []
    handle = layer.register_forward_hook(lambda *call: outputs.append(call[2]))
    predictions = _predict(detector.model, batch)
    handle.remove()

    # (N, channels, R); of regions, which are rows, (1, channels, R).
    logits = [x.flatten(2) if x.dim() == 4 else x.T[None] for x in outputs]
    scores = torch.cat(logits, dim=2).float()
    std, mean = torch.std_mean(scores, dim=(0, 2))
    std = std.clamp(min=1e-6)
    layer.weight /= std.view(-1, *[1] * (layer.weight.dim() - 1))
    layer.bias.sub_(mean).div_(std)
    scores = (scores - mean[:, None]) / std[:, None]
    missing = detector.missing(predictions, scores).flatten()
    missing = missing[missing.isfinite()]
    wanted = min(candidates * len(batch), missing.numel())
    layer.bias[detector.classes] += missing.kthvalue(wanted).values


def build_batch(workload: Workload) -> Batch:
    """Pictures and ground truth as a mapper gives them; the same for every model."""
    generator = torch.Generator().manual_seed(workload.seed)
    classes = detector_node(workload.config()).NUM_CLASSES
    return [_record(workload, classes, generator) for _ in range(workload.batch)]


def _record(workload: Workload, num_classes: int, generator: torch.Generator) -> dict[str, Any]:
    height, width = workload.image_size
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(random_boxes(workload.boxes, height, width, generator))
    instances.gt_classes = torch.randint(num_classes, (workload.boxes,), generator=generator)
    if workload.image:
        image = _read_picture(workload)
    else:
        # Blots of 16 pixels: noise of single pixels would average out below any feature.
        coarse = torch.rand(1, 3, -(-height // 16), -(-width // 16), generator=generator)
        image = F.interpolate(coarse * 255, (height, width), mode="bilinear")[0].to(torch.uint8)
    return {"image": image, "instances": instances, "height": height, "width": width}


def _read_picture(workload: Workload) -> Tensor:
    try:
        picture = read_image(workload.image, format=workload.config().INPUT.FORMAT)
    except OSError as error:
        raise UserError(f"--image {workload.image} cannot be read: {error}") from error
    resize = T.ResizeTransform(*picture.shape[:2], *workload.image_size)
    return torch.from_numpy(resize.apply_image(picture).transpose(2, 0, 1).copy())


def random_boxes(number: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Boxes (M, 4) inside a picture; the logarithm of a side is uniform, from 16 pixels up."""
    sides = torch.tensor([width, height], dtype=torch.float32)
    shortest = (sides / 4).clamp(max=16)
    share = torch.rand(number, 2, generator=generator)
    size = shortest * (sides / shortest) ** share
    corner = torch.rand(number, 2, generator=generator) * (sides - size)
    return torch.cat((corner, corner + size), dim=1)
