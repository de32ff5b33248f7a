"""The head of RepPoints."""

from ..rule import Rule, Table, tower_rules

TABLE = Table(
    detector="RepPoints",
    mmdet=r"bbox_head\.(reppoints_|moment_transfer)",
    ours=r"head\.(points_|refined_points_|cls_points_|moment_transfer)",
    rules=[
        *tower_rules(),
        Rule("bbox_head.reppoints_pts_init_conv.{affine}", "head.points_conv.{affine}"),
        Rule("bbox_head.reppoints_pts_init_out.{affine}", "head.points_pred.{affine}"),
        Rule("bbox_head.reppoints_cls_conv.weight", "head.cls_points_conv.weight"),
        Rule("bbox_head.reppoints_cls_out.{affine}", "head.cls_pred.{affine}"),
        Rule("bbox_head.reppoints_pts_refine_conv.weight", "head.refined_points_conv.weight"),
        Rule("bbox_head.reppoints_pts_refine_out.{affine}", "head.refined_points_pred.{affine}"),
        Rule("bbox_head.moment_transfer", "head.moment_transfer"),
    ],
)
