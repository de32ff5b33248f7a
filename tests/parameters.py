"""The number of parameters of each published network, as the reference or arithmetic counts."""

import re

from tests.config_files import ROWS

# Counted in the reference implementation (mmdet 3.3).
R50, R50_DCN = 32_891_554, 33_887_287
X101_32X4D_DCN, X101_64X4D = 55_494_402, 90_789_794
R2_101, R2_101_DCN = 52_560_442, 55_037_638
# FPN of 256 channels and head with DCNv2; the same two of VFNet-X, 384 channels wide.
FPN, HEAD_DCN = 3_868_672, 5_639_320
NECK_X, HEAD_X = 14_936_145, 15_095_960


def conv(channels: int, outputs: int, *, taps: int = 9, beside: int = 1) -> int:
    """A convolution; `beside`: values an output has beside its taps, a bias or two of a norm."""
    return outputs * (taps * channels + beside)


def offset_branches(*widths: int, channels: int = 27) -> int:
    """Of deformable layers of these widths, each: to 27 channels in DCNv2, 18 in version 1."""
    return sum(conv(width, channels) for width in widths)


def in_stages(res3: int, *, res4_blocks: int, channels: int = 27, from_res4: bool = False) -> int:
    """Offset branches of 4, `res4_blocks` and 3 blocks, each stage twice as wide as the last."""
    widths = [2 * res3] * res4_blocks + [4 * res3] * 3
    return offset_branches(*(widths if from_res4 else [res3] * 4 + widths), channels=channels)


# Of both towers' last convolutions.
IN_HEAD = offset_branches(256, 256)
# One block of res4 in R-101, which has 17 more than R-50: 1024 -> 256 -> 256 -> 1024 channels, and
# scale and shift of three norms.
RES4_BLOCK = 1024 * 256 + 9 * 256 * 256 + 256 * 1024 + 2 * (256 + 256 + 1024)
R101 = R50 + 17 * RES4_BLOCK
# Without refinement: no second star convolution, no 3x3 convolution to 4 distances, no 5 factors.
STAR_ONLY = R50 - 9 * 256 * 256 - (9 * 256 * 4 + 4) - 5
# Without a star: a plain convolution, whose norm is what the star has not.
RAW = STAR_ONLY + 2 * 256
VFNETX = R2_101_DCN - FPN - HEAD_DCN + NECK_X + HEAD_X

# Of the others: the backbones alone, and with deformable layers of version 1 (mmdet's dconv).
HEAD = 5_514_850
BACKBONES_ALONE = {
    "R50": R50 - FPN - HEAD,
    "R101": R101 - FPN - HEAD,
    "X101_32x4d": X101_32X4D_DCN - in_stages(256, res4_blocks=23) - IN_HEAD - FPN - HEAD,
    "X101_64x4d": X101_64X4D - FPN - HEAD,
    "R2_101": R2_101 - FPN - HEAD,
}
V1_R101 = in_stages(128, res4_blocks=23, channels=18)
V1_X101 = in_stages(256, res4_blocks=23, channels=18)
V1_X101_RES4 = in_stages(256, res4_blocks=23, channels=18, from_res4=True)
# Three in each block.
V1_R2_101_RES4 = 3 * in_stages(52, res4_blocks=23, channels=18, from_res4=True)
# P6 from res5's 2048 channels instead of P5's 256; eight convolutions with a norm, not a bias.
FPN_RES5 = FPN + 9 * 256 * (2048 - 256)
FPN_GN = FPN_RES5 + 8 * 256
# The heads by mmdet's sources: two towers, and then what predicts; a factor for each level.
TOWERS, TOWERS_GN = 8 * conv(256, 256), 8 * conv(256, 256, beside=2)
ATSS_RAW = TOWERS_GN + conv(256, 80) + conv(256, 4) + 5
ATSS = ATSS_RAW + conv(256, 1)
GFL = TOWERS_GN + conv(256, 80) + conv(256, 4 * 17) + 5
GFLV2 = GFL + conv(4 * 5, 64, taps=1) + conv(64, 1, taps=1)
RETINANET = TOWERS + conv(256, 9 * 80) + conv(256, 9 * 4)
FOVEABOX = TOWERS + conv(256, 80) + conv(256, 4)
FOVEABOX_ALIGN = (
    4 * conv(256, 256, beside=2)
    + conv(256, 4)
    # Four groups of nine displacements from the raw box, and the features that they align.
    + conv(4, 4 * 18, taps=1, beside=0)
    + conv(256, 256, beside=0)
    + conv(256, 1024, beside=2)
    + conv(1024, 1024, taps=1, beside=2)
    + conv(1024, 80)
)
# Initial points, two deformable layers, classes and refined points; two factors of the moments.
POINTS = (
    conv(256, 256)
    + 2 * conv(256, 256, beside=0)
    + conv(256, 80, taps=1)
    + 2 * conv(256, 18, taps=1)
    + 2
)
REPPOINTS, REPPOINTS_GN = (6 * conv(256, 256, beside=n) + POINTS for n in (1, 2))
NON_LOCAL = 4 * conv(256, 256, taps=1)


# Faster R-CNN: P2 to P5, proposals of three anchors, two layers and the predictions of a region.
FPN_RES2 = sum(conv(c, 256, taps=1) + conv(256, 256) for c in (256, 512, 1024, 2048))
RPN = conv(256, 256) + conv(256, 3, taps=1) + conv(256, 3 * 4, taps=1)
RCNN = (
    RPN
    + conv(256 * 7 * 7, 1024, taps=1)
    + conv(1024, 1024, taps=1)
    + conv(1024, 80 + 1, taps=1)
    + conv(1024, 80 * 4, taps=1)
)
FAMILY = {
    **{f"atss_{depth}": BACKBONES_ALONE[depth] + FPN + ATSS for depth in ("R50", "R101")},
    "atss_R50_raw": BACKBONES_ALONE["R50"] + FPN + ATSS_RAW,
    **{
        f"{name}_{backbone}": BACKBONES_ALONE[backbone] + FPN + head
        for name, head in (("gfl", GFL), ("gflv2", GFLV2))
        for backbone in ("R50", "R101", "X101_32x4d")
    },
    "gfl_R101_dcn": BACKBONES_ALONE["R101"] + V1_R101 + FPN + GFL,
    "gfl_X101_32x4d_dcn": BACKBONES_ALONE["X101_32x4d"] + V1_X101_RES4 + FPN + GFL,
    "gflv2_R101_dcn": BACKBONES_ALONE["R101"] + V1_R101 + FPN + GFLV2,
    "gflv2_X101_32x4d_dcn": BACKBONES_ALONE["X101_32x4d"] + V1_X101_RES4 + FPN + GFLV2,
    "gflv2_R2_101_dcn": BACKBONES_ALONE["R2_101"] + V1_R2_101_RES4 + FPN + GFLV2,
    **{
        f"retinanet_{backbone}": BACKBONES_ALONE[backbone] + FPN_RES5 + RETINANET
        for backbone in ("R50", "R101", "X101_32x4d", "X101_64x4d")
    },
    "libra_retinanet_R50": BACKBONES_ALONE["R50"] + FPN_RES5 + NON_LOCAL + RETINANET,
    **{
        f"libra_faster_rcnn_{backbone}": BACKBONES_ALONE[backbone] + FPN_RES2 + NON_LOCAL + RCNN
        for backbone in ("R50", "R101", "X101_64x4d")
    },
    **{
        f"foveabox_{depth}{suffix}": BACKBONES_ALONE[depth] + FPN_RES5 + head
        for depth in ("R50", "R101")
        for suffix, head in (("", FOVEABOX), ("_align", FOVEABOX_ALIGN))
    },
    "reppoints_R50": BACKBONES_ALONE["R50"] + FPN_RES5 + REPPOINTS,
    "reppoints_R50_gn": BACKBONES_ALONE["R50"] + FPN_GN + REPPOINTS_GN,
    "reppoints_R101_gn": BACKBONES_ALONE["R101"] + FPN_GN + REPPOINTS_GN,
    "reppoints_R101_dcn_gn": BACKBONES_ALONE["R101"] + V1_R101 + FPN_GN + REPPOINTS_GN,
    "reppoints_X101_dcn_gn": BACKBONES_ALONE["X101_32x4d"] + V1_X101 + FPN_GN + REPPOINTS_GN,
}


def network(name: str) -> str:
    """The name of a model without schedule and loss; Table 5 has RepPoints with GroupNorm."""
    loss = r"(_focal|_quality_focal|_varifocal)"
    name = re.sub(rf"^reppoints_R50_1x(?={loss})", "reppoints_R50_gn_1x", name)
    return re.sub(rf"(_ms)?_[123]x{loss}?", "", name)


# What published_models.csv must say. A row that is not among these was counted here alone.
DERIVED = {
    "vfnet_R50_1x": R50,
    "vfnet_R50_ms_2x": R50,
    "vfnet_R50_dcn_ms_2x": R50_DCN,
    "vfnet_R101_1x": R101,
    "vfnet_R101_2x": R101,
    "vfnet_R101_ms_2x": R101,
    "vfnet_R101_dcn_ms_2x": R101 + in_stages(128, res4_blocks=23) + IN_HEAD,
    "vfnet_X101_32x4d_ms_2x": X101_32X4D_DCN - in_stages(256, res4_blocks=23) - IN_HEAD,
    "vfnet_X101_32x4d_dcn_ms_2x": X101_32X4D_DCN,
    "vfnet_X101_64x4d_ms_2x": X101_64X4D,
    "vfnet_X101_64x4d_dcn_ms_2x": X101_64X4D + in_stages(512, res4_blocks=23) + IN_HEAD,
    "vfnet_R2_101_ms_2x": R2_101,
    "vfnet_R2_101_dcn_ms_2x": R2_101_DCN,
    "vfnetx_R2_101_59e": VFNETX,
    "vfnetx_R2_101_59e_1200": VFNETX,
    "vfnet_R50_1x_raw_focal": RAW,
    "vfnet_R50_1x_raw": RAW,
    "vfnet_R50_1x_star_only": STAR_ONLY,
    # These change numbers of the loss alone.
    **{f"vfnet_R50_1x_{loss}": R50 for loss in ("focal", "quality_focal", "unweighted")},
    **{name: R50 for name in ROWS if name.startswith("vfnet_R50_1x_gamma")},
    **{name: FAMILY[network(name)] for name in ROWS if network(name) in FAMILY},
}
