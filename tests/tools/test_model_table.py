"""The tables of models and of ablations: written from the data file, and up to date."""

import re

import model_table
import pytest

from vfnet.errors import UserError
from vfnet.model_zoo.published import all_rows, published_models


def run(*arguments):
    model_table.main(model_table.get_parser().parse_args([str(a) for a in arguments]))


def test_both_readmes_are_up_to_date():
    run("--check")


def test_every_row_has_its_config_its_numbers_and_where_its_weights_are(repository):
    rows = model_table.table(published_models()).splitlines()
    assert len(rows) == 2 + len(published_models())
    assert len({row.count("|") for row in rows}) == 1
    for row, model in zip(rows[2:], published_models()):
        name, path, *cells = re.fullmatch(
            r"\| \[(.+?)\]\((.+?)\)" + r" \| (.+?)" * 6 + r" \|", row
        ).groups()
        assert name == model.config and (repository / path).is_file()
        assert cells[:-1] == [model.train, model.epochs, model.ap_val, model.ap_test_dev, model.fps]
        if model.weights:
            assert cells[-1] == "`vfnet://`"
        else:
            assert cells[-1] == "[authors](https://github.com/hyz-xmaster/VarifocalNet)"


def test_a_stale_table_fails_the_check_and_is_written_anew(repository, tmp_path):
    text = (repository / "README.md").read_text()
    file = tmp_path / "README.md"
    stale = text.replace("| 41.6 | 41.6 |", "| 42.6 | 41.6 |")
    file.write_text(stale)
    with pytest.raises(UserError, match="not up to date: run tools/dev/model_table.py"):
        run("--check", "--file", file)
    assert file.read_text() == stale
    run("--file", file)
    assert file.read_text() == text
    run("--check", "--file", file)


def test_ablations_are_written_too(repository, tmp_path):
    text = (repository / "configs" / "ablation" / "README.md").read_text()
    row = (
        "| [vfnet_R50_1x_raw](vfnet_R50_1x_raw.yaml) | raw head, varifocal loss | 3 | 40.1 | 58.5 "
        "| 43.4 | 32,293,017 |\n"
    )
    assert row in text
    file = tmp_path / "README.md"
    file.write_text(text.replace(row, ""))
    run("--file", file)
    assert file.read_text() == text


def test_every_ablation_has_its_row_and_its_link(repository):
    folder = repository / "configs" / "ablation"
    links = re.findall(
        r"^\| \[(.+?)\]\((.+?)\)", model_table.ablation_table(all_rows()), re.MULTILINE
    )
    assert [name for name, _ in links] == [row.config for row in all_rows() if row.change]
    assert all((folder / path).is_file() for _, path in links)
    assert {path.stem for path in folder.glob("*.yaml")} <= {name for name, _ in links}


@pytest.mark.parametrize(
    "text",
    [
        "no markers\n",
        "<!-- models -->\n",
        "<!-- /models -->\n<!-- models -->\n",
        "<!-- models -->\n<!-- models -->\n<!-- /models -->\n",
    ],
)
def test_a_file_without_its_two_markers_is_refused(tmp_path, text):
    (tmp_path / "x.md").write_text(text)
    with pytest.raises(UserError, match="expected one line <!-- models -->"):
        run("--file", tmp_path / "x.md")
    assert (tmp_path / "x.md").read_text() == text
