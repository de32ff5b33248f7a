"""Small models of timm, with weights at random: a ConvNeXt, a Swin transformer and a MobileNet."""

MODELS = {
    "convnext": ("convnext_atto", [["depths", [1, 1, 2, 1]], ["dims", [8, 16, 24, 32]]]),
    "swin": (
        "swin_tiny_patch4_window7_224",
        [["depths", [2, 1, 1, 1]], ["embed_dim", 8], ["num_heads", [1, 2, 2, 4]]],
    ),
    "mobilenet": ("mobilenetv3_small_050", []),
}


def with_timm(cfg, name, *overrides):
    """A config of a tiny detector with one of `MODELS` for its backbone."""
    model, kwargs = MODELS[name]
    cfg.MODEL.BACKBONE.NAME = "build_vfnet_timm_fpn_backbone"
    cfg.MODEL.TIMM.NAME, cfg.MODEL.TIMM.KWARGS = model, kwargs
    cfg.merge_from_list(list(overrides))
    return cfg
