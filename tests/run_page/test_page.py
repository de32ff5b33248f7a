"""run.html: whole, safe, and with the numbers of the run; of killed, old and moved runs too."""

import base64
import io
import json
import logging
import re
import shlex
import shutil
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from tests.engine.tiny import tiny_config
from vfnet.errors import UserError
from vfnet.inspection.run import RESULTS
from vfnet.inspection.run_figure import PANEL_INCHES, panels_of_run
from vfnet.run_page import tell_run, write_page
from vfnet.run_page.curves import draw_svg
from vfnet.run_page.log import describe_start

DASH = "\N{EN DASH}"
NASTY = ('<script>alert("x")</script>', "Tom & 'Jerry'", "plain")
FOLDER = "a <b> & \"c\" 'd' $HOME"
METRICS = [
    {"iteration": 19, "total_loss": 3.0, "loss_cls": 1.0, "lr": 0.01},
    {"iteration": 29, "bbox/AP": 40.0, "bbox/AP50": 60.0, "validation/loss_cls": 1.25},
    {"iteration": 39, "total_loss": 2.0, "loss_cls": 0.5, "lr": 0.001, "bbox/AP": 30.0},
]
LOG = """\
[11/25 23:59:50] detectron2 INFO: Rank of current process: 0. World size: 1
[11/25 23:59:50] detectron2 INFO: Environment info:
-----------  -----
Python       3.11.7 (main) [GCC]
detectron2   0.6 @/somewhere
PyTorch      2.14.1 @/somewhere
[11/25 23:59:51] vfnet INFO: {started}
[11/25 23:59:52] vfnet WARNING: beware of <b>bold</b>
[11/25 23:59:53] detectron2.engine.train_loop INFO: Starting training from iteration 0
[11/26 00:00:20] detectron2.utils.events INFO:  iter: 19
[11/26 00:10:00] detectron2 INFO: Rank of current process: 0. World size: 1
[11/26 00:10:01] vfnet INFO: {started}
[11/26 00:10:02] vfnet WARNING: beware of <b>bold</b>
[11/26 00:10:03] detectron2.engine.train_loop INFO: Starting training from iteration 20
[11/26 00:10:30] detectron2.utils.events INFO:  iter: 39
"""


class Page(HTMLParser):
    """The tags of a page with their attributes, and its texts."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def commands(self):
        return [shlex.split(text) for text in self.texts if re.match(r"(python|cd) ", text)]


@pytest.fixture
def run(make_coco, tmp_path):
    """A run on own data with nasty names in a folder with one; the detector misses one object."""
    file, content = make_coco(categories=tuple(zip((3, 7, 9), NASTY)))
    folder = tmp_path / FOLDER
    (folder / "inference").mkdir(parents=True)
    found = [
        {**{key: a[key] for key in ("image_id", "category_id", "bbox")}, "score": 0.9}
        for a in content["annotations"]
    ]
    found[2]["bbox"] = [40.0, 20.0, 10.0, 10.0]
    (folder / "inference" / RESULTS).write_text(json.dumps(found))
    own = str([["page_val", str(file), str(file.parent)]])
    cfg = tiny_config(folder, "DATASETS.COCO_FORMAT", own, "DATASETS.TEST", "('page_val',)")
    cfg.MODEL.VFNET.CLASS_NAMES = list(NASTY)
    cfg.SOLVER.MAX_ITER = 60
    (folder / "config.yaml").write_text(cfg.dump())
    (folder / "metrics.json").write_text("".join(json.dumps(row) + "\n" for row in METRICS))
    command = ["python", "train_net.py", "--config-file", "x.yaml"]
    started = describe_start("1.2.3", str(tmp_path), command, 1)
    (folder / "log.txt").write_text(LOG.format(started=started))
    (folder / "model_best.pth").write_bytes(bytes(3 * 2**20))
    return folder


def forget():
    DatasetCatalog.pop("page_val", None)
    MetadataCatalog.pop("page_val", None)


def test_the_page_is_whole_and_needs_nothing_else(run):
    page = Page(write_page(run))
    assert page.open == []
    names = [tag for tag, _ in page.tags]
    assert names.count("svg") == 6 and names.count("img") == 8  # a pair of each picture
    assert not {"script", "link", "iframe", "object"} & {*names[names.index("body") :]}
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "data:").startswith(("data:", "#"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert ids and len([*ids]) == len({*ids})
    assert not re.search(r"@import|url\((?!#)", page.source)


def test_a_long_legend_is_below_its_curves_and_within_the_picture():
    def draw(count, axes):
        metrics = [{"iteration": 0, **{f"loss_{i}": 1.0 for i in range(count)}}]
        panels_of_run(metrics, [])[0](axes)

    heights, lowest = {}, {}
    for count in (1, 20):
        svg = draw_svg(partial(draw, count), 0)
        width, heights[count] = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', svg).groups())
        assert width == pytest.approx(PANEL_INCHES[0] * 72)
        lowest[count] = max(float(y) for y in re.findall(r'<text [^>]* y="([\d.]+)"', svg))
        assert lowest[count] < heights[count]
    assert heights[1] == pytest.approx(PANEL_INCHES[1] * 72, abs=30)
    assert heights[20] > heights[1] + 9 * 9  # ten rows of two in 9 points


@pytest.mark.parametrize("largest", [1.0, 1e4, 1e9])
def test_a_label_beside_long_numbers_is_within_the_picture(largest):
    def draw(axes):
        axes.plot([0, largest])
        axes.ticklabel_format(style="plain")
        axes.set_ylabel("rate")

    svg = draw_svg(draw, 0)
    # It stands upright, centred: its letters end some points to the left of its base line.
    (x,) = re.findall(r'<text [^>]*x="(\S+)"[^>]*rotate\(-90[^>]*>rate<', svg)
    assert float(x) > 8


def test_names_are_text(run):
    page = Page(write_page(run))
    for name in (*NASTY, run.name, "beware of <b>bold</b>"):
        assert any(name in text for text in page.texts), name
    assert "alert" not in "".join(f"{tag}{attributes}" for tag, attributes in page.tags)


def test_the_page_has_the_numbers_of_the_run(run):
    text = Page(write_page(run)).text
    assert "40 of 60 iterations are written: it still runs, or was killed" in text
    # In percent, with how often the classes are there; the second missed its one of two objects.
    assert "AP, best 40.0 after 30 iterations; last 30.0" in text
    assert "AP50, best 60.0 after 30 iterations; last 60.0" in text
    assert f"{NASTY[1]} 2 100.0 100.0 100.0 {DASH} {DASH}" in text
    assert f"{NASTY[0]} 1 0.0 0.0 0.0 {DASH} {DASH}" in text
    assert "4.png: 0 of 1 missed, 0 detected that are not there" in text
    # Two starts of 30 s each, one over midnight; one warning, twice.
    assert "took 0:01:00" in text
    assert "started 2 times, at iteration 0, 20" in text
    assert "beware of <b>bold</b> (2 times)" in text
    assert "vfnet 1.2.3" in text and "Python 3.11.7" in text and "PyTorch 2.14.1" in text
    assert "model_best.pth 3.0" in text
    assert "SOLVER.MAX_ITER 60 87960" in text and "Base-VFNet.yaml" in text
    assert "validation/loss_cls: 1.25" in text
    assert "What this page lacks" not in text


def test_pictures_with_errors_come_first(run):
    page = Page(write_page(run))
    captions = re.findall(r"(\d)\.png: (\d) of 1 missed, (\d) detected", page.text)
    assert captions[0] == ("3", "1", "1")
    assert {c[1:] for c in captions[1:]} == {("0", "0")}
    images = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    first = Image.open(io.BytesIO(base64.b64decode(images[0].partition(",")[2])))
    assert first.size == (64, 48)


def test_commands_can_be_copied(run, tmp_path):
    commands = Page(write_page(run)).commands
    assert commands[0] == ["cd", str(tmp_path)]
    config = f"{FOLDER}/config.yaml"
    assert (tmp_path / config).is_file()
    assert commands[1] == ["python", "train_net.py", "--config-file", config, "--resume"]
    evaluate, predict, export, page = commands[2:]
    weights = f"{FOLDER}/model_best.pth"
    assert evaluate[4:6] == ["--eval-only", "MODEL.WEIGHTS"] and evaluate[6] == weights
    assert evaluate[7:] == ["OUTPUT_DIR", f"{FOLDER}/evaluation"]
    assert predict[1:4] == ["demo/demo.py", "--weights", weights]
    assert Path(predict[5]).is_file()
    assert export[1] == "tools/export.py" and export[-2:] == ["MODEL.WEIGHTS", weights]
    assert page == ["python", "tools/run_page.py", FOLDER]


def test_a_moved_run_has_commands_for_where_it_is(run, tmp_path):
    write_page(run)
    moved = tmp_path / "123"
    shutil.move(run, moved)
    before = Page(moved / "run.html")
    assert before.open == []
    commands = Page(write_page(moved)).commands
    # Quoted for yacs, which would take it for a number.
    assert commands[1][3:] == ["123/config.yaml", "--resume", "OUTPUT_DIR", "'123'"]


def test_a_run_with_a_lowered_max_iter_says_what_it_trained(run):
    log = (run / "log.txt").read_text()
    (run / "log.txt").write_text(log.replace("from iteration 20", "from iteration 70"))
    assert "finished after 70 iterations" in Page(write_page(run)).text


def test_the_evaluation_after_the_last_iteration_is_told_with_its_number(run):
    rows = [*METRICS, {"iteration": 59, "total_loss": 1.0}, {"iteration": 60, "bbox/AP": 50.0}]
    (run / "metrics.json").write_text("\n".join(map(json.dumps, rows)))
    text = Page(write_page(run)).text
    assert "finished after 60 iterations" in text
    assert "AP, best 50.0 after 60 iterations; last 50.0" in text


def test_a_failed_run_says_how_it_ended(run):
    with open(run / "log.txt", "a") as file:
        file.write(
            "[11/26 00:10:31] detectron2.engine.train_loop ERROR: Exception during training:\n"
            "Traceback (most recent call last):\n  File ...\n"
            "vfnet.errors.UserError: no <luck>\n"
            "[11/26 00:10:32] d2.engine.hooks INFO: Total training time: 0:00:01\n"
        )
    assert "it ended with: vfnet.errors.UserError: no <luck>" in Page(write_page(run)).text


def test_what_is_missing_is_said_and_the_rest_is_shown(run):
    for name in ("log.txt", "metrics.json", f"inference/{RESULTS}", "model_best.pth"):
        (run / name).unlink()
    page = Page(write_page(run))
    assert "What this page lacks" in page.text
    assert "found no file at" in page.text
    assert page.commands[1][:2] == ["python", "train_net.py"]


def test_damaged_detections_and_missing_pictures_are_no_obstacle(run, tmp_path):
    (run / "inference" / RESULTS).write_text('[{"image_id": 99}]')
    assert "expected detections of page_val" in Page(write_page(run)).text


@pytest.mark.parametrize("text", ["", "null", "MODEL: [", "[11/40 99:99:99] x INFO: y\n"])
def test_a_log_that_is_none_is_an_empty_one(run, text):
    (run / "log.txt").write_text(text)
    assert "began" not in Page(write_page(run)).text


def test_without_a_config_there_is_no_page(tmp_path):
    with pytest.raises(UserError, match=r"config\.yaml does not exist"):
        write_page(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_page_that_cannot_be_written_is_one_warning(tmp_path, caplog, monkeypatch):
    def fail(*_):
        raise RuntimeError("boom")

    monkeypatch.setattr("vfnet.run_page.write_page", fail)
    with caplog.at_level(logging.WARNING):
        tell_run(str(tmp_path))
    (record,) = caplog.records
    assert record.getMessage() == "run.html could not be written (RuntimeError: boom)"
