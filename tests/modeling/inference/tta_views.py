"""Configs and images for tests of test-time augmentation."""

import numpy as np
import torch
from PIL import Image

from vfnet.data.transforms.views import build_resizes
from vfnet.modeling.inference.test_time_augmentation import DetectorWithTTA


def with_tta(cfg, min_sizes, flip=False, max_size=1000, max_sizes=(), resize="pil"):
    cfg = cfg.clone()
    cfg.defrost()
    aug = cfg.TEST.AUG
    aug.ENABLED, aug.MIN_SIZES, aug.FLIP = True, tuple(min_sizes), flip
    aug.MAX_SIZE, aug.MAX_SIZES = max_size, tuple(max_sizes)
    cfg.INPUT.RESIZE = resize
    return cfg


def augmented_model(cfg, model):
    return DetectorWithTTA(model, build_resizes(cfg), cfg.TEST.AUG.FLIP)


def pil_resized(image, height, width):
    """An image (C, H, W) of bytes, resized by PIL alone."""
    pixels = Image.fromarray(image.permute(1, 2, 0).numpy())
    return torch.from_numpy(np.array(pixels.resize((width, height), Image.BILINEAR))).permute(
        2, 0, 1
    )
