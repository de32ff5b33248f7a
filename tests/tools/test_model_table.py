"""The tables of models and of ablations: written from the data file, and up to date."""

import re

import model_table
import pytest

from vfnet.errors import UserError
from vfnet.model_zoo.published import all_rows, published_models


def run(*arguments):
    model_table.main(model_table.get_parser().parse_args([str(a) for a in arguments]))


def test_all_documents_are_up_to_date():
    run("--check")


def test_every_row_has_its_config_its_numbers_and_where_its_weights_are(repository, capsys):
    models = [model for model in published_models() if not model.config.endswith("_varifocal")]
    rows = model_table.model_table(repository).splitlines()
    assert len(rows) == 2 + len(models)
    assert len({row.count("|") for row in rows}) == 1
    for row, model in zip(rows[2:], models):
        detector, name, path, *cells = re.fullmatch(
            r"\| (.+?) \| \[(.+?)\]\((.+?)\)" + r" \| (.+?)" * 7 + r" \|", row
        ).groups()
        assert name == model.config and (repository / path).is_file()
        assert detector.split()[0] == ("VFNet" if name.startswith("vfnet") else path.split("/")[1])
        values = [model.train, model.epochs, model.ap_val, model.ap_test_dev, model.fps]
        assert cells[:-2] == [value or "-" for value in values]
        assert cells[-2] == f"{int(model.parameters):,}"
        assert cells[-1] == ("`vfnet://`" if model.weights else f"[authors]({model.page})")


def test_without_arguments_it_prints_the_table_of_all_models(repository, capsys, monkeypatch):
    monkeypatch.chdir(repository)
    run()
    assert capsys.readouterr().out == model_table.model_table(repository)


def test_the_readmes_rows_count_the_models_of_each_detector():
    rows = [line.split(" | ") for line in model_table.detector_table().splitlines()[2:]]
    found = {row[0].strip("| "): row[1:] for row in rows}
    assert found["VFNet"][:3] == ["R-50, R-101, X-101, R2-101", "15", "41.6 to 54.5"]
    assert found["GFL"] == ["R-50, R-101, X-101, R2-101", "12", "40.2 to 49.9", "6 |"]
    assert found["ATSS"] == ["R-50, R-101", "2", "39.4 to 41.5", "2 |"]
    total = len(model_table.model_table().splitlines()) - 2
    assert sum(int(row[1]) for row in found.values()) == total


@pytest.mark.parametrize(
    ("document", "old"),
    [
        ("README.md", "| 41.6 to 54.5 |"),
        ("docs/models.md", "| 41.6 | 41.6 |"),
        ("configs/ablation/README.md", "| raw head, varifocal loss | 3 | 40.1 | 58.5 |"),
    ],
)
def test_a_stale_table_fails_the_check_and_is_written_anew(repository, tmp_path, document, old):
    text = (repository / document).read_text()
    assert text.count(old) == 1
    file = tmp_path / "x.md"
    stale = text.replace(old, "| 42.6 |")
    file.write_text(stale)
    with pytest.raises(UserError, match="not up to date: run tools/model_table.py --write"):
        run("--check", "--file", file)
    assert file.read_text() == stale
    run("--write", "--file", file)
    assert file.read_text() == text
    run("--check", "--file", file)


def test_every_ablation_has_its_row_and_its_link(repository):
    folder = repository / "configs" / "ablation"
    links = re.findall(r"^\| \[(.+?)\]\((.+?)\)", model_table.ablation_table(), re.MULTILINE)
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
        run("--write", "--file", tmp_path / "x.md")
    assert (tmp_path / "x.md").read_text() == text
