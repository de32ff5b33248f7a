#!/usr/bin/env python3
"""Write the tables of README.md and configs/ablation/README.md, each between its two markers.

tools/dev/model_table.py            # after a change of published_models.csv
tools/dev/model_table.py --check    # changes nothing, fails if a table is not up to date
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from vfnet.engine import report_errors
from vfnet.errors import UserError
from vfnet.model_zoo import get_config_file
from vfnet.model_zoo.published import PublishedModel, all_rows, published_models
from vfnet.utils.files import write_aside

ROOT = Path(__file__).resolve().parents[2]
ABLATIONS = ROOT / "configs" / "ablation"
MODELS_HEADER = """\
| config | train | epochs | AP val | AP test-dev | FPS | weights |
|---|---|---|---|---|---|---|
"""
ABLATIONS_HEADER = """\
| config | what it is | table | AP | AP50 | AP75 | parameters |
|---|---|---|---|---|---|---|
"""


def table(models: list[PublishedModel]) -> str:
    """Return README's table in markdown, a row for each model."""
    return MODELS_HEADER + "".join(
        _line(
            *(_link(model, ROOT), model.train, model.epochs, model.ap_val, model.ap_test_dev),
            *(model.fps, "`vfnet://`" if model.weights else f"[authors]({model.page})"),
        )
        for model in models
    )


def ablation_table(rows: list[PublishedModel]) -> str:
    """Return the table of configs/ablation/README.md: the rows that say what they change."""
    return ABLATIONS_HEADER + "".join(
        _line(
            *(_link(row, ABLATIONS), row.change, ", ".join(row.tables.split())),
            *(row.ap_val, row.ap50_val, row.ap75_val, f"{int(row.parameters):,}"),
        )
        for row in rows
        if row.change
    )


def _link(model: PublishedModel, folder: Path) -> str:
    path = Path(os.path.relpath(get_config_file(model.config), folder))
    return f"[{model.config}]({path.as_posix()})"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cell or '-' for cell in cells)} |\n"


def with_table(text: str) -> str:
    """Return the text with the present table between its markers.

    Raises:
        UserError: the markers are not there, once each and in order.
    """
    name = "ablations" if "<!-- ablations -->\n" in text else "models"
    start, stop = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    before, begin, rest = text.partition(start)
    _, end, after = rest.partition(stop)
    if not begin or not end or start in rest or stop in after:
        raise UserError(
            f"expected one line {start.strip()} and after it one line {stop.strip()} in the text: "
            "put them where the table belongs"
        )
    content = ablation_table(all_rows()) if name == "ablations" else table(published_models())
    return f"{before}{start}\n{content}\n{stop}{after}"


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing, fail on a difference")
    parser.add_argument(
        "--file",
        type=Path,
        nargs="+",
        default=[ROOT / "README.md", ABLATIONS / "README.md"],
        help="(default: both README.md)",
    )
    return parser


def main(args: argparse.Namespace) -> None:
    for file in args.file:
        text = file.read_text(encoding="utf-8")
        wanted = with_table(text)
        if text == wanted:
            continue
        if args.check:
            raise UserError(f"the table in {file} is not up to date: run tools/dev/model_table.py")
        with write_aside(file) as stream:
            stream.write(wanted.encode("utf-8"))


if __name__ == "__main__":
    with report_errors():
        main(get_parser().parse_args())
