"""The config keys of backbones and necks, at their defaults: see keys.py."""

from detectron2.config import CfgNode


def add_backbone_keys(cfg: CfgNode) -> None:
    """Add the keys of every backbone and neck, at their defaults, to `cfg.MODEL`."""
    # Batch norms of the backbone keep their running statistics while training; their scale and
    # shift still learn where they are not frozen. Set False to train from scratch.
    cfg.MODEL.RESNETS.NORM_EVAL = True
    # The old name of MODEL.RESNETS.NORM_EVAL, still read: False in either key is False.
    cfg.MODEL.VFNET.BACKBONE_NORM_EVAL = True
    # Start each residual block as the identity: the scale of its last norm is 0. For training from
    # scratch; loaded weights overwrite it.
    cfg.MODEL.RESNETS.ZERO_INIT_RESIDUAL = False

    # What makes P6, and from it P7, of the pyramids that this project builds: "p5", "res5", or
    # "pool" (P6 is every second cell of P5, and there is no P7).
    cfg.MODEL.FPN.P6_FROM = "p5"
    # Whether a ReLU stands before P7's convolution.
    cfg.MODEL.FPN.P7_RELU = True
    # Norm of P6 and P7: a name of detectron2.layers.get_norm. FPN.NORM does not reach them.
    cfg.MODEL.FPN.P6_P7_NORM = ""

    # build_bfp_backbone: the balanced feature pyramid (Libra R-CNN) behind another pyramid.
    cfg.MODEL.BFP = CfgNode()
    # The builder of that pyramid.
    cfg.MODEL.BFP.BACKBONE = ""
    # The level, counted from the finest, whose size it is refined at.
    cfg.MODEL.BFP.REFINE_LEVEL = 2
    # By what it is refined: "non_local", "conv" or "".
    cfg.MODEL.BFP.REFINE = "non_local"

    # build_vfnet_res2net_fpn_backbone, build_vfnet_res2net_pafpn_backbone.
    cfg.MODEL.RES2NET = CfgNode()
    # Groups of channels in the 3x3 convolutions of a block.
    cfg.MODEL.RES2NET.SCALES = 4
    # Width of one scale in res2, doubled per stage.
    cfg.MODEL.RES2NET.BASE_WIDTH = 26

    # build_vfnet_timm_fpn_backbone: a model of timm (the extra `timm`). Of RESNETS only NORM_EVAL
    # plays a part; BACKBONE.FREEZE_AT counts stages as timm does, the stem first.
    cfg.MODEL.TIMM = CfgNode()
    # Its name, such as "convnext_tiny": one whose features have the strides that the pyramid needs.
    cfg.MODEL.TIMM.NAME = ""
    # What else timm.create_model is given: a list of [name, value], such as [["depths", [2, 2]]].
    cfg.MODEL.TIMM.KWARGS = []
    # Stochastic depth: the probability of leaving out the last block; the first one is always
    # there. 0: timm's default of the model.
    cfg.MODEL.TIMM.DROP_PATH_RATE = 0.0
    # Norm of each feature that the pyramid takes, a name of detectron2.layers.get_norm; "": none.
    # Transformers and ConvNeXt, which have no norm at the end of a stage, are trained with "LN".
    cfg.MODEL.TIMM.NORM = ""
    # Pictures are padded to multiples of this, in pixels, for models whose windows have to fill
    # them: the window's side times 32, such as 224 for maxvit_tiny_tf_224.
    cfg.MODEL.TIMM.SIZE_DIVISIBILITY = 1

    # build_vfnet_res2net_pafpn_backbone: the pyramid of VFNet-X, with a path from fine to coarse.
    cfg.MODEL.PAFPN = CfgNode()
    # Norm of its convolutions but the lateral ones: a name of detectron2.layers.get_norm.
    cfg.MODEL.PAFPN.NORM = ""
    # Whether the last convolutions of P3 to P5 are modulated deformable ones (DCNv2).
    cfg.MODEL.PAFPN.DEFORM = False
