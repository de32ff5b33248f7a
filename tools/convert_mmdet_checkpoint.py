#!/usr/bin/env python3
"""Convert a checkpoint of mmdet (2.x or 3.x) to a Detectron2 file, or back.

    tools/convert_mmdet_checkpoint.py epoch_12.pth vfnet.pth
    tools/convert_mmdet_checkpoint.py vfnet://vfnet_R50_1x vfnet.pth
    tools/convert_mmdet_checkpoint.py --to-mmdet output/own_data/model_final.pth mmdet.pth \\
        --config-file output/own_data/config.yaml

Nothing that a file holds is executed. To load a file of mmdet no conversion is needed:
MODEL.WEIGHTS mmdet://epoch_12.pth does the same.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

# Before detectron2, whose import would warn.
from vfnet.config import detector_node

from vfnet.processes import report_errors  # isort: skip

import torch
from detectron2.utils.file_io import PathManager

from vfnet.checkpoint import (
    convert_file,
    convert_file_back,
    fetch_source,
    write_safetensors,
)
from vfnet.config import load_config
from vfnet.errors import UserError
from vfnet.model_zoo.handler import mmdet_path
from vfnet.utils.files import write_aside


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "source", metavar="IN", help="path, URL, vfnet://NAME or mmdet://PATH_OR_URL"
    )
    parser.add_argument(
        "output", metavar="OUT", type=Path, help="file, .pth or .safetensors; replaced if it exists"
    )
    parser.add_argument(
        "--to-mmdet", action="store_true", help="IN is a checkpoint of this project, OUT of mmdet"
    )
    parser.add_argument(
        "--config-file",
        metavar="YAML",
        help="with --to-mmdet: the config.yaml that the training run wrote, for its class names, "
        "which its checkpoints do not hold",
    )
    return parser


def main(args: argparse.Namespace) -> None:
    check_output(args.output, args.to_mmdet)
    if args.config_file and not args.to_mmdet:
        raise UserError("--config-file is for --to-mmdet only: leave it out")
    if args.to_mmdet:
        content = to_mmdet(args.source, args.config_file)
    else:
        content = to_detectron2(args.source)
    try:
        if args.output.suffix == ".safetensors":
            write_safetensors(args.output, **content)
        else:
            with write_aside(args.output) as stream:
                torch.save(content, stream)
    except OSError as error:
        raise UserError(f"{args.output} cannot be written ({error}): choose another") from error
    weights = content["state_dict" if args.to_mmdet else "model"]
    if args.to_mmdet and not content["meta"]:
        print("without class names: give them by --config-file")
    print(f"{args.output}: {len(weights)} tensors, {'mmdet' if args.to_mmdet else 'Detectron2'}")


def check_output(output: Path, to_mmdet: bool) -> None:
    if to_mmdet and output.suffix == ".safetensors":
        raise UserError(
            f"mmdet reads no safetensors, got {output}: call it {output.with_suffix('.pth').name}"
        )
    if output.suffix in (".pkl", ".pyth"):
        raise UserError(
            f"expected the name of a torch file, got {output}, which Detectron2 would read in "
            f"another format: call it {output.with_suffix('.pth').name}"
        )
    if output.is_dir():
        raise UserError(f"expected a file to write, got the folder {output}: add a file name")
    if not output.parent.is_dir():
        raise UserError(f"the folder of {output} does not exist: create it")


def to_detectron2(source: str) -> dict[str, Any]:
    """Return what Detectron2's checkpointer loads, from a checkpoint of mmdet."""
    if source.startswith("vfnet:"):
        path = mmdet_path(source)
    else:
        path = source if source.startswith("mmdet:") else f"mmdet:{source}"
    return {**convert_file(fetch_source(path).file), "mmdet_source": source}


def to_mmdet(source: str, config_file: str | None) -> dict[str, Any]:
    """Return what mmdet loads, from a checkpoint of this project."""
    names = detector_node(load_config(config_file)).CLASS_NAMES if config_file else []
    try:
        local = PathManager.get_local_path(source)
    except OSError as error:
        raise UserError(f"{source} cannot be fetched ({error}): check the address") from error
    return convert_file_back(local, names)


if __name__ == "__main__":
    with report_errors():
        main(get_parser().parse_args())
