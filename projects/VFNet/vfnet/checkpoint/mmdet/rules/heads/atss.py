"""The head of ATSS, with its centerness branch or without."""

from ..rule import Rule, Table, tower_rules

TABLE = Table(
    detector="ATSS",
    mmdet=r"bbox_head\.atss_",
    ours=r"head\.(delta_pred|centerness_pred)",
    rules=[
        *tower_rules(),
        Rule("bbox_head.atss_cls.{affine}", "head.cls_pred.{affine}"),
        Rule("bbox_head.atss_reg.{affine}", "head.delta_pred.{affine}"),
        Rule("bbox_head.atss_centerness.{affine}", "head.centerness_pred.{affine}"),
    ],
)
