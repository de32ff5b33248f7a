#!/usr/bin/env python3
"""Average the weights of several checkpoints of one model.

    tools/average_checkpoints.py output/mean.pth output/run/model_0000036.pth \\
        output/run/model_0000073.pth output/run/model_final.pth

The output holds {"model": weights}, which MODEL.WEIGHTS takes. Floating-point weights are averaged
in double precision; whole numbers, which count batches, are those of the last file.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vfnet.checkpoint import read_checkpoint
from vfnet.errors import UserError
from vfnet.processes import report_errors
from vfnet.utils.files import write_aside

STATISTICS = (".running_mean", ".running_var")


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, help="file to write")
    parser.add_argument("inputs", type=Path, nargs="+", help="two checkpoints or more")
    return parser


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors by name that a checkpoint of this project or of Detectron2 holds.

    Raises:
        UserError: it holds none.
    """
    content = read_checkpoint(path)
    weights = content.get("model", content)
    if (
        not isinstance(weights, dict)
        or not weights
        or not all(isinstance(value, Tensor) for value in weights.values())
    ):
        raise UserError(
            f"expected tensors by name under 'model' in {path}, found none; give checkpoints that "
            "train_net.py has written"
        )
    return dict(weights)


def average(paths: Sequence[Path]) -> tuple[dict[str, Tensor], list[str]]:
    """Average the weights of checkpoints, one of which is in memory at a time.

    Returns:
        the mean by name, in the types of the files, and the names of the batch norms' statistics
        that were not the same in all of them.

    Raises:
        UserError: names, shapes or types differ, or something is not finite.
    """
    first = read_weights(paths[0])
    sums = {n: value.double() for n, value in first.items() if value.is_floating_point()}
    last, differing = first, set()
    for path in paths[1:]:
        last = read_weights(path)
        _require_same_model(first, last, paths[0], path)
        for name in sums:
            sums[name] += last[name].double()
            if name.endswith(STATISTICS) and not torch.equal(first[name], last[name]):
                differing.add(name)
    bad = [name for name, value in sums.items() if not torch.isfinite(value).all()]
    if bad:
        raise UserError(
            f"{bad[0]} is not finite in one of the checkpoints; leave out those of a run that has "
            "diverged"
        )
    mean = {
        name: (sums[name] / len(paths)).to(value.dtype) if name in sums else value
        for name, value in last.items()
    }
    return mean, sorted(differing)


def _require_same_model(
    one: dict[str, Tensor], other: dict[str, Tensor], one_path: Path, other_path: Path
) -> None:
    def kind(weights: dict[str, Tensor], name: str) -> str:
        if name not in weights:
            return "missing"
        return f"{tuple(weights[name].shape)} of {weights[name].dtype}"

    for name in sorted({*one, *other}):
        here, there = kind(one, name), kind(other, name)
        if here != there:
            raise UserError(
                f"expected checkpoints of one model, but {name} is {here} in {one_path} and "
                f"{there} in {other_path}; give checkpoints of the same config"
            )


def main(args: argparse.Namespace) -> None:
    if len(args.inputs) < 2:
        raise UserError(f"expected two checkpoints or more, got {len(args.inputs)}")
    for path in args.inputs:
        if not path.is_file():
            raise UserError(f"there is no checkpoint {path}")
        if path.resolve() == args.output.resolve():
            raise UserError(f"{path} is to be averaged and overwritten; name another output")
    if not args.output.parent.is_dir():
        raise UserError(f"the folder of the output {args.output} does not exist; make it first")
    mean, differing = average(args.inputs)
    with write_aside(args.output) as stream:
        torch.save({"model": mean}, stream)
    print(f"{args.output}: mean of {len(args.inputs)} checkpoints, {len(mean)} tensors")
    if differing:
        print(
            f"{len(differing)} statistics of batch norms differed and were averaged too: they are "
            "those of the files, not of the averaged weights (SOLVER.SWA estimates them anew)"
        )


if __name__ == "__main__":
    with report_errors():
        main(get_parser().parse_args())
