#!/usr/bin/env python3
"""Write the table of published models into README.md, between its two markers.

tools/dev/model_table.py            # after a change of published_models.csv
tools/dev/model_table.py --check    # changes nothing, fails if the table is not up to date
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vfnet.engine import report_errors
from vfnet.errors import UserError
from vfnet.model_zoo.published import AUTHORS_PAGE, PublishedModel, published_models
from vfnet.utils.files import write_aside

README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- models -->\n", "<!-- /models -->\n"
HEADER = """\
| config | train | epochs | AP val | AP test-dev | FPS | weights |
|---|---|---|---|---|---|---|
"""


def table(models: list[PublishedModel]) -> str:
    """Return the table in markdown, a row for each model."""
    return HEADER + "".join(f"| {' | '.join(_cells(model))} |\n" for model in models)


def _cells(model: PublishedModel) -> list[str]:
    link = f"[{model.config}](configs/{model.config}.yaml)"
    weights = "`vfnet://`" if model.weights else f"[authors]({AUTHORS_PAGE})"
    return [link, *model[1:-1], weights]


def with_table(text: str) -> str:
    """Return the text with the present table between its markers.

    Raises:
        UserError: the markers are not there, once each and in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise UserError(
            f"expected one line {BEGIN.strip()} and after it one line {END.strip()} in the text: "
            "put them where the table belongs"
        )
    return f"{before}{BEGIN}\n{table(published_models())}\n{END}{after}"


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing, fail on a difference")
    parser.add_argument("--file", type=Path, default=README, help="(default: README.md)")
    return parser


def main(args: argparse.Namespace) -> None:
    text = args.file.read_text(encoding="utf-8")
    wanted = with_table(text)
    if text == wanted:
        return
    if args.check:
        raise UserError(
            f"the models in {args.file} are not up to date: run tools/dev/model_table.py"
        )
    with write_aside(args.file) as stream:
        stream.write(wanted.encode("utf-8"))


if __name__ == "__main__":
    with report_errors():
        main(get_parser().parse_args())
