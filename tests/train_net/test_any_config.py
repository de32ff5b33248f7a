"""Whatever value a key is given: the run is refused in one sentence, or it trains and is scored.

The real set-up, in this process, for every key of every detector of the family. Values are drawn
of all kinds, mostly of the key's own.
"""

import math
import signal
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.tiny import CONFIG
from tests.engine.tiny_family import CONFIGS
from vfnet import get_cfg
from vfnet.engine.preflight import trial
from vfnet.errors import UserError
from vfnet.predictor import load_prediction_config

# Seconds that a set-up, or a step with its evaluation, may take on a busy machine.
LONGEST = 60
GIB = 2**30
CLASSES = ((1, "a"), (2, "b"), (3, "c"))


def leaves(node, prefix=""):
    for name, value in node.items():
        if hasattr(value, "items"):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


DEFAULTS = dict(leaves(get_cfg()))
# What the test itself sets.
KEYS = sorted(DEFAULTS.keys() - {"OUTPUT_DIR", "DATASETS.COCO_FORMAT", "DATASETS.TRAIN"})

TEXTS = st.sampled_from(["", "x", "a\0b", "\ud800", "${x}", "x" * 5000, "BN", "GN", "p3", "\n"])
INTEGERS = st.sampled_from([0, 1, -1, 2, 7, 100, 4096, 2**31 - 1, 2**31, -(2**31), 10**400])
FLOATS = st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e-30, 1e9, 1e308, math.nan, math.inf, -math.inf])
SCALARS = st.one_of(st.none(), st.booleans(), TEXTS, INTEGERS, FLOATS)
LISTS = st.lists(st.one_of(SCALARS, st.lists(SCALARS, max_size=3)), max_size=5)
ANY = st.one_of(SCALARS, LISTS, st.dictionaries(st.just("a"), SCALARS))


def values(default):
    """Values for a key: of its own kind three times of four."""
    if isinstance(default, (list, tuple)):
        elements = {str: TEXTS, bool: st.booleans()}.get(
            type(default[0]) if default else None, st.one_of(INTEGERS, FLOATS)
        )
        own = st.one_of(st.lists(elements, max_size=len(default) + 2), LISTS)
    else:
        own = {bool: st.booleans(), str: TEXTS, int: INTEGERS}.get(type(default), FLOATS)
    return st.one_of(own, own, own, ANY)


CHANGES = st.sampled_from(KEYS).flatmap(lambda key: st.tuples(st.just(key), values(DEFAULTS[key])))

DETECTORS = st.sampled_from(["vfnet", *CONFIGS])


class TooLong(BaseException):
    """No Exception, which set-up might take for one of the config."""


@contextmanager
def at_most(seconds):
    """End what takes longer."""

    def end(*_):
        raise TooLong(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def quick(monkeypatch, train_net):
    """Leave out of default_setup what looks at the machine and logs; have little memory."""
    monkeypatch.setattr(train_net, "default_setup", lambda cfg, args: cfg.dump())
    monkeypatch.setattr(trial, "memory", lambda: 2 * GIB)


@pytest.fixture
def set_up(train_net, tmp_path, make_coco, quick):
    """A function that sets a run of a detector up, with KEY VALUE pairs, and returns its config."""
    file, _ = make_coco("any_config", sizes=[(128, 96)] * 2, categories=CLASSES)
    data = ("DATASETS.COCO_FORMAT", [["any_config", str(file), str(file.parent)]])
    named = ("DATASETS.TRAIN", ("any_config",), "DATASETS.TEST", ("any_config",))
    always = ("OUTPUT_DIR", str(tmp_path / "out"), "MODEL.DEVICE", "cpu", *data, *named)

    def config_file(detector):
        file = tmp_path / f"{detector}.yaml"
        if detector == "vfnet":
            return CONFIG
        if not file.exists():
            file.write_text(CONFIGS[detector](tmp_path).dump())
        return file

    def set_up(detector, *pairs):
        args = train_net.parse_args(["--config-file", str(config_file(detector))])
        args.opts = [*always, *pairs]
        with at_most(LONGEST):
            return train_net.setup(args)

    return set_up


def train_and_score(train_net, cfg):
    """Take one step, of a batch of two, and evaluate."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH = min(2, cfg.SOLVER.IMS_PER_BATCH)
    cfg.SOLVER.ACCUM_STEPS = min(cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUM_STEPS)
    cfg.TEST.PRECISE_BN.NUM_ITER = min(2, cfg.TEST.PRECISE_BN.NUM_ITER)
    with at_most(LONGEST):
        trainer = train_net.Trainer(cfg)
        trainer.resume_or_load(resume=False)
        trainer.max_iter = min(trainer.max_iter, 1)
        trainer.train()


@pytest.mark.soak
def test_any_value_is_refused_or_trains(train_net, set_up, amount, figure):
    tried = {"refused": 0, "used": 0}

    @settings(
        max_examples=amount(ci=12, soak=1000),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(DETECTORS, st.lists(CHANGES, min_size=1, max_size=2), st.data())
    def check(detector, changes, data):
        try:
            cfg = set_up(detector, *(word for change in changes for word in change))
            if data.draw(st.integers(0, 3), "runs at 0") == 0:
                train_and_score(train_net, cfg)
            tried["used"] += 1
        except UserError as error:
            assert "\n" not in str(error)
            tried["refused"] += 1

    check()
    figure("configs with values of any kind", sum(tried.values()), sum(tried.values()))
    assert min(tried.values()) > 0


# What fuzzing found first.
@pytest.mark.parametrize(
    "key, value",
    [
        ("INPUT.RANDOM_FLIP", "x"),
        ("SOLVER.STEPS", ("a",)),
        ("DATASETS.TEST", [[]]),
        ("MODEL.RESNETS.STEM_OUT_CHANNELS", -1),
        ("MODEL.RESNETS.DEFORM_ON_PER_STAGE", []),
        ("OUTPUT_DIR", "a\0b"),
        ("OUTPUT_DIR", "${HOME}"),
        ("DATALOADER.NUM_WORKERS", -1),
        ("MODEL.DEVICE", "xla"),
        ("MODEL.PIXEL_STD", [1.0, 1.0]),
        ("MODEL.PIXEL_MEAN", [1.0]),
        ("MODEL.VFNET.NUM_CONVS", 2**31),
        ("MODEL.VFNET.CONV_CHANNELS", 16384),
        ("SOLVER.BASE_LR", None),
        ("SOLVER.BASE_LR", math.nan),
        ("SOLVER.CHECKPOINT_PERIOD", 0),
        ("SOLVER.REFERENCE_WORLD_SIZE", 7),
        ("INPUT.MIN_SIZE_TRAIN", [True]),
        ("TEST.EXPECTED_RESULTS", [["bbox", "AP"]]),
        ("SEED", 10**400),
    ],
)
def test_a_value_that_no_run_can_have(set_up, key, value):
    with pytest.raises(UserError, match=key.rpartition(".")[2]):
        set_up("vfnet", key, value)


@pytest.mark.parametrize(
    "norm, batch, smallest, refused",
    [
        *[("BN", 1, 96, True), ("BN", 2, 96, False), ("BN", 1, 160, False)],
        *[("GN", 1, 96, False), ("FrozenBN", 1, 96, False)],
    ],
)
def test_a_norm_of_a_single_cell(set_up, train_net, norm, batch, smallest, refused):
    pairs = ("MODEL.VFNET.NORM", norm, "SOLVER.IMS_PER_BATCH", batch, "DATASETS.TEST", ())
    sizes = ("INPUT.MIN_SIZE_TRAIN", (smallest,), "INPUT.MAX_SIZE_TRAIN", 2 * smallest)
    if refused:
        with pytest.raises(UserError, match="MIN_SIZE_TRAIN reaches down to 128 pixels.*BatchNorm"):
            set_up("vfnet", *pairs, *sizes)
    else:
        train_and_score(train_net, set_up("vfnet", *pairs, *sizes))


def test_prediction_refuses_them_too():
    with pytest.raises(UserError, match="MODEL.PIXEL_STD has to be a list"):
        load_prediction_config(str(CONFIG), ["MODEL.PIXEL_STD", [None]])
