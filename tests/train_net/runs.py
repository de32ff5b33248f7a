"""What the tests of `train_net.py` share beside fixtures."""

import torch

# Flips, sizes, and batch norms whose statistics move: all that a continued run has to repeat.
EVERYTHING_RANDOM = (
    "INPUT.RANDOM_FLIP",
    "horizontal",
    "INPUT.MIN_SIZE_TRAIN_SAMPLING",
    "range",
    "MODEL.VFNET.BACKBONE_NORM_EVAL",
    "False",
)


def snapshot(folder):
    """Return the files of a folder and what they hold."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def weights(path):
    """Return a checkpoint's tensors by name."""
    return torch.load(path, weights_only=True)["model"]


def assert_equal(found, expected, name):
    """Compare what two checkpoints hold, to the last bit."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), name
        for key in expected:
            assert_equal(found[key], expected[key], f"{name}.{key}")
    elif isinstance(expected, (list, tuple)):
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_equal(one, other, f"{name}.{index}")
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), name
    else:
        # The only thing that belongs to a run and not to what it computes.
        assert found == expected or name.endswith(".run"), name
