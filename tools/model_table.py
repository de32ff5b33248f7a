#!/usr/bin/env python3
"""Print the table of all models with their published numbers, detector by detector.

tools/model_table.py
tools/model_table.py --write    # the documents' tables, after a change of published_models.csv
tools/model_table.py --check    # changes nothing, fails if a table of a document is not up to date

The documents are README.md (a row for each detector), docs/models.md (all models) and
configs/ablation/README.md; a table stands between its two markers.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from vfnet.errors import UserError
from vfnet.model_zoo import get_config_file
from vfnet.model_zoo.published import PublishedModel, all_rows, published_models
from vfnet.processes import report_errors
from vfnet.utils.files import write_aside

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
ABLATIONS = ROOT / "configs" / "ablation"
DOCUMENTS = [ROOT / "README.md", DOCS / "models.md", ABLATIONS / "README.md"]
BACKBONE = re.compile(r"_(R2(?=_)|R|X)_?(\d+)_")
# Of configs that lie in no folder of their own, and of those in one that is called otherwise.
DETECTORS = {"configs": "VFNet", "Libra": "Libra R-CNN"}


def detector_table() -> str:
    """Return the table of README.md in markdown: a row for each detector."""
    rows = []
    for detector, group in itertools.groupby(_whole_models(), _detector):
        models = list(group)
        aps = sorted(float(model.ap_val) for model in models)
        found = dict.fromkeys(name for model in models for name in BACKBONE.findall(model.config))
        backbones = ", ".join(f"{kind}-{depth}" for kind, depth in found)
        by_name = sum(bool(model.weights) for model in models)
        rows.append((detector, backbones, len(models), f"{aps[0]} to {aps[-1]}", by_name))
    return _table("detector | backbones | models | AP val | with `vfnet://` weights", rows)


def model_table(folder: Path = DOCS) -> str:
    """Return the table of docs/models.md: a row for each model, links seen from `folder`."""
    columns = "detector | config | train | epochs | AP val | AP test-dev | FPS | parameters"
    rows = [
        (
            *(_detector(model), _link(model, folder), model.train, model.epochs),
            *(model.ap_val, model.ap_test_dev, model.fps, _parameters(model), _weights(model)),
        )
        for model in _whole_models()
    ]
    return _table(f"{columns} | weights", rows)


def ablation_table() -> str:
    """Return the table of configs/ablation/README.md: the rows that say what they change."""
    rows = [
        (
            *(_link(row, ABLATIONS), row.change, ", ".join(row.tables.split())),
            *(row.ap_val, row.ap50_val, row.ap75_val, _parameters(row), _weights(row)),
        )
        for row in all_rows()
        if row.change
    ]
    columns = "config | what it is | table | AP | AP50 | AP75 | parameters | weights"
    return _table(columns, rows)


# By the name in the markers.
TABLES: dict[str, Callable[[], str]] = {
    "detectors": detector_table,
    "models": model_table,
    "ablations": ablation_table,
}


def _whole_models() -> list[PublishedModel]:
    """Models with published weights, but for those that are rows of an ablation alone."""
    return [
        model
        for model in published_models()
        if Path(get_config_file(model.config)).parent != ABLATIONS
    ]


def _detector(model: PublishedModel) -> str:
    folder = Path(get_config_file(model.config)).parent.name
    return DETECTORS.get(folder, folder)


def _link(model: PublishedModel, folder: Path) -> str:
    path = Path(os.path.relpath(get_config_file(model.config), folder))
    return f"[{model.config}]({path.as_posix()})"


def _parameters(model: PublishedModel) -> str:
    return f"{int(model.parameters):,}"


def _weights(model: PublishedModel) -> str:
    if model.weights:
        return "`vfnet://`"
    return f"[authors]({model.page})" if model.page else ""


def _table(columns: str, rows: Sequence[tuple[object, ...]]) -> str:
    rule = "---|" * len(columns.split(" | "))
    lines = (" | ".join(str(cell) or "-" for cell in row) for row in rows)
    return f"| {columns} |\n|{rule}\n" + "".join(f"| {line} |\n" for line in lines)


def with_table(text: str) -> str:
    """Return the text with the present table between its markers.

    Raises:
        UserError: the markers of one table are not there, once each and in order.
    """
    found = re.search(rf"^<!-- ({'|'.join(TABLES)}) -->$", text, re.MULTILINE)
    name = found[1] if found else "models"
    start, stop = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    before, begin, rest = text.partition(start)
    _, end, after = rest.partition(stop)
    if not begin or not end or start in rest or stop in after:
        raise UserError(
            f"expected one line {start.strip()} and after it one line {stop.strip()} in the text: "
            "put them where the table belongs"
        )
    return f"{before}{start}\n{TABLES[name]()}\n{stop}{after}"


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="write the tables of the documents")
    what.add_argument("--check", action="store_true", help="write nothing, fail on a difference")
    parser.add_argument(
        "--file", type=Path, nargs="+", default=DOCUMENTS, help="of --write and --check"
    )
    return parser


def main(args: argparse.Namespace) -> None:
    if not args.write and not args.check:
        print(model_table(Path.cwd()), end="")
        return
    for file in args.file:
        text = file.read_text(encoding="utf-8")
        wanted = with_table(text)
        if text == wanted:
            continue
        if args.check:
            raise UserError(
                f"the table in {file} is not up to date: run tools/model_table.py --write"
            )
        with write_aside(file) as stream:
            stream.write(wanted.encode("utf-8"))


if __name__ == "__main__":
    with report_errors():
        main(get_parser().parse_args())
