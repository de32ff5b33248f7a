"""The two stages of Faster R-CNN, whose names are Detectron2's here."""

from ..rule import Rule, Table

_RPN, _BOX_HEAD = "proposal_generator.rpn_head", "roi_heads.box_head"

TABLE = Table(
    detector="Faster R-CNN",
    mmdet=r"(rpn|roi)_head\.",
    ours=r"(proposal_generator|roi_heads)\.",
    rules=[
        Rule("rpn_head.rpn_conv.{affine}", f"{_RPN}.conv.{{affine}}"),
        Rule("rpn_head.rpn_cls.{affine}", f"{_RPN}.objectness_logits.{{affine}}"),
        Rule("rpn_head.rpn_reg.{affine}", f"{_RPN}.anchor_deltas.{{affine}}"),
        Rule("roi_head.bbox_head.shared_fcs.0.{affine}", f"{_BOX_HEAD}.fc1.{{affine}}"),
        Rule("roi_head.bbox_head.shared_fcs.1.{affine}", f"{_BOX_HEAD}.fc2.{{affine}}"),
        Rule("roi_head.bbox_head.fc_cls.{affine}", "roi_heads.box_predictor.cls_score.{affine}"),
        Rule("roi_head.bbox_head.fc_reg.{affine}", "roi_heads.box_predictor.bbox_pred.{affine}"),
    ],
)
