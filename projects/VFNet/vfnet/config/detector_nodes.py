"""The nodes of the detectors: every key that one of them has, with its unit and its options.

Descriptions: see keys.py.
"""

from detectron2.config import CfgNode

# Detectron2's and COCO's count; NUM_CLASSES that is left at it takes over the number of the data.
DEFAULT_NUM_CLASSES = 80


def add_detector_nodes(cfg: CfgNode) -> None:
    """Add the node of each detector, and this project's keys to the nodes of Detectron2's."""
    _add_vfnet_keys(cfg)
    _add_atss_keys(cfg)
    _add_gfl_keys(cfg)
    _add_foveabox_keys(cfg)
    _add_reppoints_keys(cfg)
    _add_retinanet_keys(cfg.MODEL.RETINANET)
    _add_rcnn_keys(cfg)


def dense_node(**defaults: object) -> CfgNode:
    """The keys that every dense detector has, some with `defaults` of its own."""
    node = CfgNode()
    _add_network_keys(node)
    _add_loss_keys(node)
    _add_test_keys(node)
    for key, value in defaults.items():
        node[key] = value
    return node


def _add_vfnet_keys(cfg: CfgNode) -> None:
    vfnet = dense_node(NUM_CONVS=3, CLS_LOSS="varifocal", BOX_LOSS_WEIGHT=1.5)
    # BOX_LOSS_WEIGHT is the initial box's.
    cfg.MODEL.VFNET = vfnet
    # Classify at the nine points of the box. This and the next are the switches of the paper's
    # Table 3. False, False: "raw VFNet"; True, False: "+ star".
    vfnet.STAR_FEATURES = True
    # Refine the box at its nine points; needs STAR_FEATURES.
    vfnet.REFINE_BOX = True
    # Share of the gradient that passes through the star's sampling points into the box.
    vfnet.STAR_GRADIENT_SCALE = 0.1
    # Factor of loss_box_refined.
    vfnet.REFINED_BOX_LOSS_WEIGHT = 2.0
    _add_assignment_keys(vfnet)


def _add_assignment_keys(node: CfgNode) -> None:
    # Assignment (ATSS): the locations of a level, nearest a box's centre, that are its candidates.
    node.ATSS_TOPK = 9
    # Side of a location's square anchor, in strides.
    node.ANCHOR_SCALE = 8.0
    # A box that this leaves without a location has its best candidate, or the next best that no box
    # has: inside the box if there is one, then by IoU. False: it is never learned, as in the
    # reference.
    node.ATSS_FALLBACK = False


def _add_atss_keys(cfg: CfgNode) -> None:
    cfg.MODEL.ATSS = dense_node()
    _add_assignment_keys(cfg.MODEL.ATSS)
    # False: FCOS+ATSS without its centerness branch.
    cfg.MODEL.ATSS.CENTERNESS = True
    # Factor of loss_centerness.
    cfg.MODEL.ATSS.CENTERNESS_LOSS_WEIGHT = 1.0


def _add_gfl_keys(cfg: CfgNode) -> None:
    gfl = dense_node(CLS_LOSS="quality_focal")
    cfg.MODEL.GFL = gfl
    _add_assignment_keys(gfl)
    # A side of a box is a distribution over 0 to REG_MAX strides.
    gfl.REG_MAX = 16
    # Factor of loss_dfl.
    gfl.DFL_LOSS_WEIGHT = 0.25
    # GFLv2: the score is multiplied by a quality, read from the distributions of the box.
    gfl.QUALITY_PREDICTOR = CfgNode()
    # True makes it GFLv2; needs CLS_LOSS "quality_focal".
    gfl.QUALITY_PREDICTOR.ENABLED = False
    # Of each side the so many highest probabilities are read.
    gfl.QUALITY_PREDICTOR.TOPK = 4
    # Channels of the hidden layer.
    gfl.QUALITY_PREDICTOR.CHANNELS = 64
    # Whether their mean is read, too.
    gfl.QUALITY_PREDICTOR.ADD_MEAN = True


def _add_foveabox_keys(cfg: CfgNode) -> None:
    foveabox = dense_node(
        NORM="", FOCAL_ALPHA=0.4, FOCAL_GAMMA=1.5, BOX_LOSS_WEIGHT=1.0, NMS_THRESH_TEST=0.5
    )
    cfg.MODEL.FOVEABOX = foveabox
    # Of each level, the sizes of boxes that it learns: square root of the area, in pixels, both
    # ends included.
    foveabox.SCALE_RANGES = [[1, 64], [32, 128], [64, 256], [128, 512], [256, 2048]]
    # Of each level, the distance that the exponential of a raw output of 0 means, in pixels.
    foveabox.BASE_EDGES = [16, 32, 64, 128, 256]
    # Share of a box's sides that is positive, around its centre.
    foveabox.SIGMA = 0.4
    # Classify features that are aligned with the box by a deformable convolution.
    foveabox.ALIGN = False
    # Varifocal and quality focal loss: the IoU is that of the box clipped to the first image of the
    # batch, as in the reference. False: to the box's own image.
    foveabox.CLIP_TO_FIRST_IMAGE = True


def _add_reppoints_keys(cfg: CfgNode) -> None:
    reppoints = dense_node(NUM_CONVS=3, BOX_LOSS_WEIGHT=0.5, NMS_THRESH_TEST=0.5)
    # BOX_LOSS_WEIGHT is the initial points'.
    cfg.MODEL.REPPOINTS = reppoints
    # Factor of loss_points_refined.
    reppoints.REFINED_BOX_LOSS_WEIGHT = 1.0
    _add_missed_positive_key(reppoints)
    # Points of a box: 9, the taps of a 3x3 kernel.
    reppoints.NUM_POINTS = 9
    # Channels of the layers that predict points and classes.
    reppoints.POINT_CHANNELS = 256
    # Boxes of this many strides are the smallest that a level learns, and the unit of box losses.
    reppoints.POINT_BASE_SCALE = 4
    # Share of the gradient that passes from the refined points to the initial ones.
    reppoints.POINTS_GRADIENT_SCALE = 0.1
    # Share of the gradient that passes to the learnt factor of the moments.
    reppoints.MOMENT_GRADIENT_SCALE = 0.01
    # From points to a box: "moment", by their mean and standard deviation; there is no other.
    reppoints.TRANSFORM = "moment"


def _add_retinanet_keys(retinanet: CfgNode) -> None:
    # Beside Detectron2's own, for QualityRetinaNet.
    _add_class_names(retinanet)
    _add_quality_loss_keys(retinanet)
    _add_ignore_key(retinanet)
    _add_missed_positive_key(retinanet)
    # What losses are divided by: "ema", Detectron2's moving average of the number of positives, or
    # "positives", those of this batch on this process (each image counts as one at least): mmdet's.
    retinanet.LOSS_NORMALIZER = "ema"
    _add_balanced_l1_keys(retinanet)


def _add_missed_positive_key(node: CfgNode) -> None:
    # The least quality that a positive learns by varifocal and quality focal loss. At 0, as in the
    # reference, a positive whose box misses its ground truth learns to be background; 1e-6, as in
    # VFNet, keeps it a positive.
    node.QUALITY_MIN = 0.0


def _add_balanced_l1_keys(node: CfgNode) -> None:
    # Balanced L1 loss (Libra R-CNN, equation 9), where BBOX_REG_LOSS_TYPE is "balanced_l1": the
    # lower, the more weight for small differences.
    node.BALANCED_L1_ALPHA = 0.5
    # Balanced L1 loss: the gradient from BALANCED_L1_BETA on.
    node.BALANCED_L1_GAMMA = 1.5
    # Balanced L1 loss: the difference, of encoded boxes, where the logarithm's part ends.
    node.BALANCED_L1_BETA = 1.0


def _add_rcnn_keys(cfg: CfgNode) -> None:
    roi_heads = cfg.MODEL.ROI_HEADS
    _add_class_names(roi_heads)
    # Of LibraROIHeads: "random" as Detectron2 samples, or "libra": negatives spread over
    # SAMPLER_BINS ranges of IoU, positives over the ground truths.
    roi_heads.SAMPLER = "random"
    # How many ranges of IoU negatives are drawn from.
    roi_heads.SAMPLER_BINS = 3
    # mmdet's sampler changes once: after the first call with enough negatives, those of IoU 0 are
    # drawn only to fill up. False: every call as the first.
    roi_heads.SAMPLER_FLOOR_SWITCH = True
    _add_balanced_l1_keys(cfg.MODEL.ROI_BOX_HEAD)
    # Most negatives for each positive anchor that the RPN learns from; 0: no bound.
    cfg.MODEL.RPN.NEGATIVES_PER_POSITIVE = 0


def _add_network_keys(node: CfgNode) -> None:
    # Number of classes; left at 80, it takes over the number of DATASETS.COCO_FORMAT.
    node.NUM_CLASSES = DEFAULT_NUM_CLASSES
    _add_class_names(node)
    # Levels of the backbone that it predicts from, the finest first; p2 too, where FPN.IN_FEATURES
    # begins with res2.
    node.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]
    # Convolutions of each of the two towers.
    node.NUM_CONVS = 4
    # Channels of these convolutions.
    node.CONV_CHANNELS = 256
    # Norm of the towers: a name of detectron2.layers.get_norm.
    node.NORM = "GN"
    # Foreground probability that the class layer's bias starts from.
    node.PRIOR_PROB = 0.01
    # Make the last convolution of both towers a modulated deformable one (DCNv2).
    node.DEFORM_LAST_CONV = False


def _add_class_names(node: CfgNode) -> None:
    # Names of the classes, in order; filled from DATASETS.COCO_FORMAT, so that a dumped config
    # predicts with names.
    node.CLASS_NAMES = []


def _add_loss_keys(node: CfgNode) -> None:
    _add_quality_loss_keys(node)
    _add_ignore_key(node)
    # Focal loss: weight of positives; that of negatives is 1 minus this.
    node.FOCAL_ALPHA = 0.25
    # Focal loss: exponent of the difference between score and label.
    node.FOCAL_GAMMA = 2.0
    # Factor of the loss of boxes.
    node.BOX_LOSS_WEIGHT = 2.0


def _add_ignore_key(node: CfgNode) -> None:
    # A location takes part in no loss where a crowd box (INPUT.KEEP_CROWD) covers more than this
    # share of its anchor; it learns no box, either. From 0 to below 1; below 0: crowds are
    # background, as in the reference. The anchor of FoveaBox is the box of raw outputs of 0, that
    # of RepPoints POINT_BASE_SCALE strides wide.
    node.IGNORE_IOF_THRESH = -1.0


def _add_quality_loss_keys(node: CfgNode) -> None:
    # The classification loss: "varifocal", "quality_focal" or "focal".
    node.CLS_LOSS = "focal"
    # Factor of that loss.
    node.CLS_LOSS_WEIGHT = 1.0
    # Varifocal loss: weight of negatives.
    node.VARIFOCAL_ALPHA = 0.75
    # Varifocal loss: exponent of a negative's score.
    node.VARIFOCAL_GAMMA = 2.0
    # Varifocal loss: weight positives by their IoU (False: the paper's Table 2 without).
    node.VARIFOCAL_IOU_WEIGHTED = True
    # Quality focal loss: exponent of the difference between score and IoU.
    node.QUALITY_FOCAL_BETA = 2.0


def _add_test_keys(node: CfgNode) -> None:
    # Lowest score of a candidate.
    node.SCORE_THRESH_TEST = 0.05
    # Candidates per level before suppression.
    node.TOPK_CANDIDATES_TEST = 1000
    # "pair": score above the threshold, then the best (location, class) pairs of a level (mmdet 3
    # and Detectron2); "location": the best locations of a level by their best class (the official
    # implementation).
    node.CANDIDATE_TEST = "pair"
    # IoU above which the worse of two boxes of a class goes; from which "soft_nms_linear" acts.
    node.NMS_THRESH_TEST = 0.6
    # Suppression: "nms", "soft_nms_linear" or "soft_nms_gaussian".
    node.NMS_TYPE = "nms"
    # Gaussian soft-NMS: scores fall by exp(-IoU^2 / this).
    node.SOFT_NMS_SIGMA = 0.5
    # Soft-NMS: boxes whose score falls below this are dropped.
    node.SOFT_NMS_MIN_SCORE = 0.001
    # What inference computes in: "float32", "bfloat16" or "float16" (a CPU: not float16). Weights,
    # boxes and scores stay float32. Training has SOLVER.AMP.
    node.PRECISION_TEST = "float32"
