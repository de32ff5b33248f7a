"""VFNet's head, that of the official implementation (mmdet 2.10) and of mmdet 3."""

from ..rule import Rule, Table, head_conv, tower_rules

TABLE = Table(
    detector="VFNet",
    mmdet=r"bbox_head\.(vfnet_|scales_refine)",
    ours=r"head\.(box_conv|box_star|cls_star|cls_conv|refine_)",
    rules=[
        *tower_rules(),
        *head_conv("vfnet_reg_conv", "box_conv"),
        Rule("bbox_head.vfnet_reg.{affine}", "head.box_pred.{affine}"),
        Rule("bbox_head.vfnet_reg_refine_dconv.weight", "head.box_star.weight"),
        Rule("bbox_head.vfnet_reg_refine.{affine}", "head.refine_pred.{affine}"),
        Rule("bbox_head.scales_refine.{index}.scale", "head.refine_scales.{index}"),
        Rule("bbox_head.vfnet_cls_dconv.weight", "head.cls_star.weight"),
        Rule("bbox_head.vfnet_cls.{affine}", "head.cls_pred.{affine}"),
        # The raw head has a plain convolution in the star's place.
        *head_conv("vfnet_cls_conv", "cls_conv"),
    ],
)
