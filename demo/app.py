#!/usr/bin/env python3
"""A page in the browser: upload a picture, see what a detector finds, move the threshold.

    python demo/app.py --weights output/shapes/model_final.pth

Without --weights: the detector that `make demo` trained. The page also offers the published ones.
It can be reached from this machine alone unless --host asks for more.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

# Before detectron2, whose import would warn.
from vfnet.processes import report_errors  # isort: skip

from vfnet.errors import UserError
from vfnet.utils.extras import import_extra
from vfnet.web.detectors import Detectors, Source

TRAINED_BY_DEMO = Path("output/shapes/model_final.pth")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--weights",
        nargs="+",
        default=[],
        metavar="FILE",
        help="checkpoints, vfnet://NAME or exported files, the first shown first "
        f"(default {TRAINED_BY_DEMO})",
    )
    parser.add_argument(
        "--config-file",
        nargs="+",
        default=[],
        metavar="YAML",
        help="config of each of --weights, in their order (default: config.yaml beside it)",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0 serves all who can reach this machine"
    )
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    return parser.parse_args(arguments)


def find_sources(weights: Sequence[str], config_files: Sequence[str]) -> list[Source]:
    """Pair weights and configs.

    Raises:
        UserError: not as many of both; nothing is named and `make demo` has not run.
    """
    if not weights:
        if not TRAINED_BY_DEMO.is_file():
            raise UserError(
                f"{TRAINED_BY_DEMO} is not there: `make demo` trains it, in some minutes; "
                "or name a detector, as in --weights vfnet://vfnet_R50_1x"
            )
        weights = [str(TRAINED_BY_DEMO)]
    if config_files and len(config_files) != len(weights):
        raise UserError(
            f"expected a --config-file for each of --weights, in their order, or none: got "
            f"{len(config_files)} for {len(weights)}"
        )
    configs: Sequence[str | None] = config_files or [None] * len(weights)
    return [Source(file, config) for file, config in zip(weights, configs)]


def run(args: argparse.Namespace) -> None:
    """Load the detectors, serve the page, and wait until it is interrupted.

    Raises:
        UserError: an argument or a detector is not usable, the port is taken.
    """
    sources = find_sources(args.weights, args.config_file)
    with tempfile.TemporaryDirectory(prefix="vfnet_page_") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # read when gradio is imported
        import_extra("gradio", "web")
        from vfnet.web.page import build_page, launch

        detectors = Detectors(sources)
        detectors.load_own()
        page = build_page(detectors, Path(folder))
        try:
            address = launch(page, args.host, args.port)
        except OSError as error:
            raise UserError(
                f"{args.host}, port {args.port or '7860 and the next 99'} cannot be served "
                "(taken, or no address of this machine): choose another --host or --port"
            ) from error
        try:
            print(f"The page is at {address} until Ctrl-C ends it", flush=True)
            page.block_thread()
        finally:
            page.close(verbose=False)  # before its folder goes


if __name__ == "__main__":
    with report_errors():
        run(parse_arguments())
