"""What may have happened to a run's checkpoints and its `last_checkpoint`."""

import os

import torch


def replace(path, content):
    path.unlink()  # it is a link
    path.write_bytes(content)


def change(path, *keys, value=None):
    """Write a checkpoint with another value at these keys, or without it."""
    content = torch.load(path, weights_only=True)
    part = content
    for key in keys[:-1]:
        part = part[key]
    if value is None:
        del part[keys[-1]]
    else:
        part[keys[-1]] = value
    path.unlink()
    torch.save(content, path)


def cut(share):
    def damage(path):
        whole = path.read_bytes()
        replace(path, whole[: int(len(whole) * share)])

    return damage


def flip(share):
    def damage(path):
        whole = bytearray(path.read_bytes())
        whole[int(len(whole) * share)] ^= 16
        replace(path, whole)

    return damage


def blank(path):
    """As after a power cut: pages that were never written."""
    whole = bytearray(path.read_bytes())
    whole[4096 * 100 : 4096 * 110] = bytes(4096 * 10)
    replace(path, whole)


def as_folder(path):
    path.unlink()
    path.mkdir()


def as_pipe(path):
    path.unlink()
    os.mkfifo(path)


def dangling(path):
    path.unlink()
    path.symlink_to(path.with_name("gone"))


def spoil_weight(path):
    change(path, "model", "head.box_pred.bias", value=torch.full((4,), float("nan")))


def spoil_momentum(path):
    key = ("trainer", "_trainer", "optimizer", "state", 0, "momentum_buffer")
    change(path, *key, value=torch.tensor(float("inf")))


DAMAGES = {
    "empty": cut(0.0),
    "one byte": lambda path: replace(path, b"P"),
    "cut at a third": cut(0.33),
    "cut before its end": cut(0.9999),
    "a bit of a weight": flip(0.3),
    "a bit of the momentum": flip(0.8),
    "a bit of the pickle": flip(0.0005),
    "a bit of the directory": flip(0.999),
    "pages of zeros": blank,
    "text": lambda path: replace(path, b"not a checkpoint"),
    "a folder": as_folder,
    "a pipe": as_pipe,
    "gone": lambda path: path.unlink(),
    "a link to nothing": dangling,
    "without trainer": lambda path: change(path, "trainer"),
    "without optimizer": lambda path: change(path, "trainer", "_trainer", "optimizer"),
    "without schedule": lambda path: change(path, "trainer", "hooks", "LRScheduler"),
    "without weights": lambda path: change(path, "model"),
    "iteration NaN": lambda path: change(path, "trainer", "iteration", value=float("nan")),
    "iteration -1": lambda path: change(path, "trainer", "iteration", value=-1),
    "a weight NaN": spoil_weight,
    "momentum infinite": spoil_momentum,
}

TAGS = {
    "empty": b"",
    "not UTF-8": b"\xff\xfe\x00",
    "NUL": b"model_\0.pth",
    "two lines": b"model_0000002.pth\nmodel_0000001.pth",
    "a missing file": b"model_0000009.pth",
    "weights alone": b"model_best.pth",
    "the folder": b".",
    "long": b"a" * 100_000,
}
