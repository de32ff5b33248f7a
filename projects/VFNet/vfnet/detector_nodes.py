"""The nodes of the detectors: every key that one of them has, with its unit and its options."""

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
    cfg.MODEL.VFNET = vfnet
    # Switches of the paper's Table 3. False, False: "raw VFNet"; True, False: "+ star".
    vfnet.STAR_FEATURES = True
    vfnet.REFINE_BOX = True
    # Share of the gradient that passes through the star's sampling points into the box.
    vfnet.STAR_GRADIENT_SCALE = 0.1
    vfnet.REFINED_BOX_LOSS_WEIGHT = 2.0
    _add_assignment_keys(vfnet)


def _add_assignment_keys(node: CfgNode) -> None:
    # Assignment (ATSS): candidates per level and box; side of the square anchor in strides.
    node.ATSS_TOPK = 9
    node.ANCHOR_SCALE = 8.0


def _add_atss_keys(cfg: CfgNode) -> None:
    cfg.MODEL.ATSS = dense_node()
    _add_assignment_keys(cfg.MODEL.ATSS)
    # False: FCOS+ATSS without its centerness branch.
    cfg.MODEL.ATSS.CENTERNESS = True
    cfg.MODEL.ATSS.CENTERNESS_LOSS_WEIGHT = 1.0


def _add_gfl_keys(cfg: CfgNode) -> None:
    gfl = dense_node(CLS_LOSS="quality_focal")
    cfg.MODEL.GFL = gfl
    _add_assignment_keys(gfl)
    # A side of a box is a distribution over 0 to REG_MAX strides.
    gfl.REG_MAX = 16
    gfl.DFL_LOSS_WEIGHT = 0.25
    # GFLv2: the score times a quality, which is read from the TOPK highest probabilities of each
    # side and, with ADD_MEAN, their mean, by a layer of CHANNELS.
    gfl.QUALITY_PREDICTOR = CfgNode()
    gfl.QUALITY_PREDICTOR.ENABLED = False
    gfl.QUALITY_PREDICTOR.TOPK = 4
    gfl.QUALITY_PREDICTOR.CHANNELS = 64
    gfl.QUALITY_PREDICTOR.ADD_MEAN = True


def _add_foveabox_keys(cfg: CfgNode) -> None:
    foveabox = dense_node(
        NORM="", FOCAL_ALPHA=0.4, FOCAL_GAMMA=1.5, BOX_LOSS_WEIGHT=1.0, NMS_THRESH_TEST=0.5
    )
    cfg.MODEL.FOVEABOX = foveabox
    # Of each level: the sizes of boxes (square root of the area) that it learns, both ends
    # included, and the distance that the exponential of a raw output of 0 means, in pixels.
    foveabox.SCALE_RANGES = [[1, 64], [32, 128], [64, 256], [128, 512], [256, 2048]]
    foveabox.BASE_EDGES = [16, 32, 64, 128, 256]
    # Share of a box's sides that is positive, around its centre.
    foveabox.SIGMA = 0.4
    # Classify features that are aligned with the box by a deformable convolution.
    foveabox.ALIGN = False
    # Varifocal and quality focal loss: the IoU is that of the box clipped to the first image of the
    # batch, as in the reference. False: to the box's own image.
    foveabox.CLIP_TO_FIRST_IMAGE = True


def _add_reppoints_keys(cfg: CfgNode) -> None:
    # BOX_LOSS_WEIGHT is the initial points', REFINED_BOX_LOSS_WEIGHT the refined ones'.
    reppoints = dense_node(NUM_CONVS=3, BOX_LOSS_WEIGHT=0.5, NMS_THRESH_TEST=0.5)
    cfg.MODEL.REPPOINTS = reppoints
    reppoints.REFINED_BOX_LOSS_WEIGHT = 1.0
    _add_missed_positive_key(reppoints)
    # A square number, the taps of a deformable convolution.
    reppoints.NUM_POINTS = 9
    reppoints.POINT_CHANNELS = 256
    # Boxes of this many strides are the smallest that a level learns, and the unit of box losses.
    reppoints.POINT_BASE_SCALE = 4
    # Share of the gradient that passes from the refined points to the initial ones, and to the
    # learnt factor of the moments.
    reppoints.POINTS_GRADIENT_SCALE = 0.1
    reppoints.MOMENT_GRADIENT_SCALE = 0.01
    # From points to a box: "moment", their mean and standard deviation.
    reppoints.TRANSFORM = "moment"


def _add_retinanet_keys(retinanet: CfgNode) -> None:
    # Beside Detectron2's own, for QualityRetinaNet; as in the nodes of dense detectors.
    retinanet.CLASS_NAMES = []
    retinanet.CLS_LOSS = "focal"
    retinanet.CLS_LOSS_WEIGHT = 1.0
    retinanet.VARIFOCAL_ALPHA = 0.75
    retinanet.VARIFOCAL_GAMMA = 2.0
    retinanet.VARIFOCAL_IOU_WEIGHTED = True
    retinanet.QUALITY_FOCAL_BETA = 2.0
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
    # Where BBOX_REG_LOSS_TYPE is "balanced_l1" (Libra R-CNN, equation 6).
    node.BALANCED_L1_ALPHA = 0.5
    node.BALANCED_L1_GAMMA = 1.5
    node.BALANCED_L1_BETA = 1.0


def _add_rcnn_keys(cfg: CfgNode) -> None:
    roi_heads = cfg.MODEL.ROI_HEADS
    roi_heads.CLASS_NAMES = []
    # Of LibraROIHeads: "random" as Detectron2 samples, or "libra": negatives spread over
    # SAMPLER_BINS ranges of IoU, positives over the ground truths.
    roi_heads.SAMPLER = "random"
    roi_heads.SAMPLER_BINS = 3
    # mmdet's sampler changes once: after the first call with enough negatives, those of IoU 0 are
    # drawn only to fill up. False: every call as the first.
    roi_heads.SAMPLER_FLOOR_SWITCH = True
    _add_balanced_l1_keys(cfg.MODEL.ROI_BOX_HEAD)
    # Most negatives for each positive anchor that the RPN learns from; 0: no bound.
    cfg.MODEL.RPN.NEGATIVES_PER_POSITIVE = 0


def _add_network_keys(node: CfgNode) -> None:
    node.NUM_CLASSES = DEFAULT_NUM_CLASSES
    # Names of the classes, in order; filled from DATASETS.COCO_FORMAT, so that a dumped config
    # predicts with names.
    node.CLASS_NAMES = []
    node.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]
    # Convolutions of each of the two towers, and their channels.
    node.NUM_CONVS = 4
    node.CONV_CHANNELS = 256
    # Norm of the towers: a name of detectron2.layers.get_norm.
    node.NORM = "GN"
    # Foreground probability that the class layer's bias starts from.
    node.PRIOR_PROB = 0.01
    # Make the last convolution of both towers a modulated deformable one (DCNv2).
    node.DEFORM_LAST_CONV = False


def _add_loss_keys(node: CfgNode) -> None:
    # "varifocal", "quality_focal" or "focal".
    node.CLS_LOSS = "focal"
    node.VARIFOCAL_ALPHA = 0.75
    node.VARIFOCAL_GAMMA = 2.0
    node.VARIFOCAL_IOU_WEIGHTED = True
    node.QUALITY_FOCAL_BETA = 2.0
    node.FOCAL_ALPHA = 0.25
    node.FOCAL_GAMMA = 2.0
    node.CLS_LOSS_WEIGHT = 1.0
    node.BOX_LOSS_WEIGHT = 2.0


def _add_test_keys(node: CfgNode) -> None:
    node.SCORE_THRESH_TEST = 0.05
    # Candidates per level before suppression.
    node.TOPK_CANDIDATES_TEST = 1000
    # "pair": score above the threshold, then the best (location, class) pairs of a level (mmdet 3
    # and Detectron2); "location": the best locations of a level by their best class (the official
    # implementation).
    node.CANDIDATE_TEST = "pair"
    node.NMS_THRESH_TEST = 0.6
    # "nms", "soft_nms_linear" or "soft_nms_gaussian".
    node.NMS_TYPE = "nms"
    node.SOFT_NMS_SIGMA = 0.5
    node.SOFT_NMS_MIN_SCORE = 0.001
    # What inference computes in: "float32", "bfloat16" or "float16" (a CPU: not float16). Weights,
    # boxes and scores stay float32. Training has SOLVER.AMP.
    node.PRECISION_TEST = "float32"
