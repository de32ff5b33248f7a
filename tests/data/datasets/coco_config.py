"""A config with own data."""

import vfnet


def make_config(*entries, train=(), test=()):
    cfg = vfnet.get_cfg()
    cfg.DATASETS.COCO_FORMAT = [[name, str(file), str(file.parent)] for name, file in entries]
    cfg.DATASETS.TRAIN = train
    cfg.DATASETS.TEST = test
    return cfg
