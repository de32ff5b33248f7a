"""The head of GFL, and of GFLv2 by its authors (mmdet 2.6)."""

from ..rule import Rule, Table, tower_rules

TABLE = Table(
    detector="GFL",
    mmdet=r"bbox_head\.(gfl_|reg_conf|integral)",
    ours=r"head\.(distribution_pred|quality|bins)",
    rules=[
        *tower_rules(),
        Rule("bbox_head.gfl_cls.{affine}", "head.cls_pred.{affine}"),
        Rule("bbox_head.gfl_reg.{affine}", "head.distribution_pred.{affine}"),
        Rule("bbox_head.integral.project", "head.bins"),
        Rule("bbox_head.reg_conf.{index}.{affine}", "head.quality.{index}.{affine}"),
    ],
)
