"""The head of FoveaBox, plain or aligned."""

from ..rule import Rule, Table, tower_rules

TABLE = Table(
    detector="FoveaBox",
    mmdet=r"bbox_head\.(conv_cls|conv_reg|fovea_|feature_adaption)",
    ours=r"head\.(distance_pred|align)",
    rules=[
        *tower_rules(),
        Rule("bbox_head.conv_cls.{affine}", "head.cls_pred.{affine}"),
        Rule("bbox_head.conv_reg.{affine}", "head.distance_pred.{affine}"),
        Rule("bbox_head.feature_adaption.conv_adaption.weight", "head.align.weight"),
        Rule("bbox_head.feature_adaption.conv_offset.weight", "head.align.offset.weight"),
        # What mmdet 1 called them, and still reads.
        Rule("bbox_head.fovea_cls.{affine}", "head.cls_pred.{affine}"),
        Rule("bbox_head.fovea_reg.{affine}", "head.distance_pred.{affine}"),
    ],
)
