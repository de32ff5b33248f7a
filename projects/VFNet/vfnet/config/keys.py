"""Config keys of data, input, solver and tests that Detectron2 lacks, with unit and options.

Those of the detectors, such as NMS's threshold and the weights of losses, stand in
detector_nodes.py, those of backbones and necks in backbone_keys.py; `add_vfnet_config` adds all.
The comment above a key, or behind it, is its description in docs/keys.md; a key without one fails
the build of the documentation.
"""

from collections.abc import Iterator
from typing import Any

from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg

from ..utils.yaml_files import SafeCfgNode
from .backbone_keys import add_backbone_keys
from .detector_nodes import add_detector_nodes

# The default of INPUT.RESIZE. An object of its own, which no "pil" that a file, the command line or
# a program assigns is: so `is` tells whether somebody chose. A config's copies keep it.
UNCHOSEN_RESIZE = str(b"pil", "ascii")


def add_vfnet_config(cfg: CfgNode) -> None:
    """Add this project's keys, at their defaults, to a config of `detectron2.config.get_cfg()`."""
    add_detector_nodes(cfg)
    add_backbone_keys(cfg)
    _add_augmentation_keys(cfg)
    _add_averaging_keys(cfg.SOLVER)
    _add_early_stop_keys(cfg.SOLVER)
    _add_step_keys(cfg.SOLVER)
    _add_slice_keys(cfg.TEST)
    _add_wandb_keys(cfg)

    # Own data: a list of [name, json file in COCO's format, folder of the images].
    cfg.DATASETS.COCO_FORMAT = []
    # True: empty boxes, boxes outside their image or sticking out of it, boxes that are no pixels
    # (0 to 1), and pictures with several records or both trained and tested on are errors.
    cfg.DATASETS.STRICT = False
    # Seconds that a batch may let wait for itself where workers load it. Then the run ends with the
    # number of the worker that hangs or was stopped. 0: wait for ever.
    cfg.DATALOADER.TIMEOUT = 600
    # The processes of a job.
    cfg.DISTRIBUTED = CfgNode()
    # Seconds that one waits for the others before it ends, Detectron2's by default: longer than
    # DATALOADER.TIMEOUT, and than the first process alone takes to score an evaluation.
    cfg.DISTRIBUTED.TIMEOUT = 1800
    # A picture that cannot be used: "error" ends the run; with "skip" another one is trained on in
    # its place, and in an evaluation its objects count as missed.
    cfg.DATASETS.ON_BAD_IMAGE = "error"
    # "pil", or "cv2" with mmcv's rounding: what converted weights were trained with, and are tested
    # with where nobody sets this key. Detectron2's own DefaultPredictor always resizes with PIL.
    cfg.INPUT.RESIZE = UNCHOSEN_RESIZE
    # Crowd boxes (iscrowd 1) of training pictures are kept, apart from the ground truth, as regions
    # for IGNORE_IOF_THRESH of the detector's node, which every dense detector has. False: they are
    # left out, so that what lies in them is background.
    cfg.INPUT.KEEP_CROWD = False
    # Most pixels of a picture, before resizing: larger ones are refused, as a small file may hold a
    # picture that no memory does. The default is Pillow's.
    cfg.INPUT.MAX_PIXELS = 178_956_970
    # The losses on DATASETS.TEST at each evaluation, as "validation/loss_cls" and so on, and their
    # sum "validation/total_loss": means over the pictures, each as if it were a batch of its own.
    cfg.TEST.VALIDATION_LOSS = False
    # "SGD", or "AdamW", of which MOMENTUM is the first beta; the second one is 0.999.
    cfg.SOLVER.OPTIMIZER = "SGD"
    # Below 1: layer i of the n of a backbone of timm learns at the rate times this ** (n - i), as
    # timm numbers them from the stem (0) on; neck and head learn at the rate itself.
    cfg.SOLVER.LAYER_DECAY = 1.0
    # "float16" or "bfloat16"; a CPU has bfloat16 only. Used where SOLVER.AMP.ENABLED is True.
    cfg.SOLVER.AMP.PRECISION = "float16"


def get_cfg() -> CfgNode:
    """Return Detectron2's default config with VFNet's keys added, and VFNet as the detector.

    Its `merge_from_file` is safe: see `SafeCfgNode`.
    """
    cfg = SafeCfgNode()
    cfg.update(get_detectron2_cfg())
    add_vfnet_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "VFNet"
    return cfg


def leaves(node: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each key, written out in full behind `prefix`, with its value."""
    for name, value in node.items():
        if isinstance(value, CfgNode):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _add_augmentation_keys(cfg: CfgNode) -> None:
    # Probability of cropping a training image, where INPUT.CROP.ENABLED is True. A crop that holds
    # no part of a box is drawn again.
    cfg.INPUT.CROP.PROBABILITY = 1.0
    # [lowest, highest] bound of the long edge, in pixels, both included, drawn for each training
    # image and independently of MIN_SIZE_TRAIN; of the two draws the greater bounds the long edge.
    # Empty: MAX_SIZE_TRAIN for all.
    cfg.INPUT.MAX_SIZE_TRAIN_RANGE = ()
    # Black rectangles over resized training images (https://arxiv.org/abs/1708.04552).
    cfg.INPUT.CUTOUT = CfgNode()
    # Whether there are any.
    cfg.INPUT.CUTOUT.ENABLED = False
    # Share of the training images that get them.
    cfg.INPUT.CUTOUT.PROBABILITY = 0.5
    # Fewest and most rectangles in such an image.
    cfg.INPUT.CUTOUT.NUM_HOLES = (5, 10)
    # (width, height) in pixels to choose from.
    cfg.INPUT.CUTOUT.SIZES = (
        *((4, 4), (4, 8), (8, 4), (8, 8), (16, 8), (8, 16), (16, 16)),
        *((16, 32), (32, 16), (32, 32), (32, 48), (48, 32), (48, 48)),
    )
    # Test-time augmentation: bound of the long edge, in pixels, for each of TEST.AUG.MIN_SIZES;
    # empty: TEST.AUG.MAX_SIZE for all. Of MIN_SIZES, 0 leaves the image as it is.
    cfg.TEST.AUG.MAX_SIZES = ()


def _add_averaging_keys(solver: CfgNode) -> None:
    # Write the weights of model_final, model_best and averages as NAME.safetensors too, beside
    # NAME.pth, which has the trainer's state and is what --resume continues from.
    solver.SAFETENSORS = False
    # Stochastic weight averaging of a finished run (https://arxiv.org/abs/2012.12645): MAX_ITER is
    # divided into equal cosine cycles of the rate, and the weights at their ends are averaged. No
    # warm-up, no STEPS. Batch norms whose statistics move are estimated anew, on
    # TEST.PRECISE_BN.NUM_ITER batches.
    solver.SWA = CfgNode()
    # Whether the run is one of averaging.
    solver.SWA.ENABLED = False
    # Number of cycles; the recipes have one an epoch.
    solver.SWA.CYCLES = 12
    # A cycle goes from BASE_LR to BASE_LR times this.
    solver.SWA.END_LR_FACTOR = 0.01
    # Exponential moving average of the weights, updated after each iteration.
    solver.EMA = CfgNode()
    # Whether there is one.
    solver.EMA.ENABLED = False
    # Share of the average that an iteration keeps.
    solver.EMA.DECAY = 0.9998


def _add_early_stop_keys(solver: CfgNode) -> None:
    # Ends a run, as if it were finished, where a score has ceased to improve.
    solver.EARLY_STOP = CfgNode()
    # Whether it does.
    solver.EARLY_STOP.ENABLED = False
    # The score, as metrics.json names it: "bbox/AP", "bbox/AP-CLASS", or "validation/total_loss",
    # where less is better. With SOLVER.EMA it is the average's, which is then scored, too, at each
    # evaluation; of several DATASETS.TEST the first one's.
    solver.EARLY_STOP.METRIC = "bbox/AP"
    # Evaluations without improvement after which the run ends.
    solver.EARLY_STOP.PATIENCE = 5


def _add_wandb_keys(cfg: CfgNode) -> None:
    # Weights & Biases (https://wandb.ai): scalars, pictures and config of a training; needs the
    # extra `wandb`. A continued run goes on with its run there, whose id is kept in OUTPUT_DIR.
    cfg.WANDB = CfgNode()
    # Whether it is written to; WANDB_MODE=offline writes into OUTPUT_DIR alone.
    cfg.WANDB.ENABLED = False
    # The project there that the run is filed under.
    cfg.WANDB.PROJECT = "vfnet"
    # What the run is called there; empty: W&B finds a name.
    cfg.WANDB.NAME = ""


def _add_step_keys(solver: CfgNode) -> None:
    # Length of the run in epochs, which may be a fraction: replaces MAX_ITER, and STEPS are then
    # epochs too. An epoch is the training images after filtering, divided by IMS_PER_BATCH and
    # rounded up. WARMUP_ITERS, TEST.EVAL_PERIOD and CHECKPOINT_PERIOD stay iterations. The config
    # that a run writes holds iterations. 0: MAX_ITER and STEPS are iterations.
    solver.EPOCHS = 0.0
    # Batch that the schedule is for. For another IMS_PER_BATCH, BASE_LR is scaled with it, and
    # MAX_ITER, STEPS, WARMUP_ITERS, TEST.EVAL_PERIOD and CHECKPOINT_PERIOD by the inverse; one line
    # says what came out. EPOCHS are not scaled. 0: all are taken as they are.
    solver.REFERENCE_BATCH = 0
    # Parts that the batch of a process is divided into, one in memory at a time; their gradients
    # are summed up. IMS_PER_BATCH stays the batch of a step, and losses are divided by numbers of
    # that whole batch, which a pass without gradient counts first. 1: all at once.
    solver.ACCUM_STEPS = 1
    # Two runs with the same SEED, processes and threads give the same bits on a CPU, whatever
    # DATALOADER.NUM_WORKERS; a SEED of -1 is drawn and logged. On a GPU, algorithms that repeat
    # themselves are chosen where there are any: docs/training.md lists what stays random.
    solver.DETERMINISTIC = False


def _add_slice_keys(test: CfgNode) -> None:
    # Small objects in large pictures: the detector looks at squares of a picture, each resized as a
    # picture is, and their detections are merged; needs the extra `sahi`. Scored beside the plain
    # detections, as "bbox_slices". See vfnet.slicing.options.
    test.SLICE = CfgNode()
    # Edge of a slice, in pixels of the picture as it is read; 0: no slices.
    test.SLICE.SIZE = 0
    # Share of a slice that its neighbour sees too, from 0 to below 1: more than the largest object
    # that the slices are for.
    test.SLICE.OVERLAP = 0.2
    # Look at the whole picture too, for objects that no slice holds.
    test.SLICE.FULL_PICTURE = True
    # What becomes of detections of a class that overlap: "nms", the best stays; "greedy_nmm", the
    # box around the best and all that overlap it; "nmm", the box around a chain of them.
    test.SLICE.MERGE = "nms"
    # How overlap is measured: "iou", or "ios", intersection over the smaller area.
    test.SLICE.MERGE_METRIC = "iou"
    # From which overlap on; 0: the detector's own NMS_THRESH_TEST.
    test.SLICE.MERGE_THRESH = 0.0
    # Slices that the detector is given at once.
    test.SLICE.BATCH_SIZE = 4
