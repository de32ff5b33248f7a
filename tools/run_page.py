#!/usr/bin/env python3
"""Write the page that tells how a run went, of one that was killed or is an old one too.

    python tools/run_page.py output/shapes

`train_net.py` writes it by itself at the end of a training, as `run.html` in OUTPUT_DIR.
"""

import argparse
from pathlib import Path

# Before detectron2, whose import would warn.
from vfnet.processes import report_errors  # isort: skip

from vfnet.run_page import NAME, write_page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", type=Path, help="OUTPUT_DIR of the run")
    parser.add_argument("--output", type=Path, help=f"page to write (default: {NAME} in there)")
    args = parser.parse_args()
    print(f"{args.run_dir}: {write_page(args.run_dir, args.output)}")


if __name__ == "__main__":
    with report_errors():
        main()
