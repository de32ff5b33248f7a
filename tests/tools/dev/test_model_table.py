"""README's table of models: written from the data file, and up to date."""

import re

import model_table
import pytest

from vfnet.errors import UserError
from vfnet.model_zoo.published import published_models


def run(*arguments):
    model_table.main(model_table.get_parser().parse_args([str(a) for a in arguments]))


def test_the_readme_is_up_to_date():
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
