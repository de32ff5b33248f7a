"""vfnet.prediction_run: results of many files, what is left out, and going on after an end."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.predictions import MeanPredictor
from vfnet.data.sources import find_files
from vfnet.data.video import read_frames
from vfnet.errors import UserError
from vfnet.prediction_run import JOURNAL_NAME, Outputs, predict_files
from vfnet.writers.journal import Journal

EVERYTHING = ("pictures", "coco", "csv", "yolo")
FILES = ["coco_images.json", "coco_instances_results.json", "predictions.csv", "predictions.json"]


@pytest.fixture
def files(tmp_path):
    """Seven pictures of two sizes."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(7):
        size = (48, 40 + 8 * (number % 2))
        Image.new("RGB", size, (30 * number, 90, 90)).save(folder / f"{number}.png")
    return find_files([folder])


@pytest.fixture
def video(tmp_path):
    """Ten frames of growing brightness."""
    writer = cv2.VideoWriter(
        str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 12, (64, 48)
    )
    for number in range(10):
        writer.write(np.full((48, 64, 3), 20 * number, np.uint8))
    writer.release()
    return tmp_path / "clip.avi"


def records(folder):
    return json.loads((folder / "predictions.json").read_text(encoding="utf-8"))


def contents(folder):
    """The bytes of all files in a folder, by their paths in it."""
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_each_kind_of_result_is_written(files, tmp_path):
    done = predict_files(MeanPredictor(), files, Outputs(tmp_path / "out", EVERYTHING))
    assert done == (7, 0, 0)
    labels = [f"labels/{n}.txt" for n in range(7)]
    drawn = [f"{n}.png" for n in range(7)]
    found = [path.as_posix() for path in contents(tmp_path / "out")]
    assert sorted(found) == sorted([*drawn, *labels, "classes.txt", *FILES])
    assert [record["file"] for record in records(tmp_path / "out")] == [str(f) for f in files]


@pytest.mark.parametrize("stop_at", [0, 3, 6])
def test_an_interrupted_run_keeps_what_it_has_and_goes_on(files, tmp_path, stop_at):
    whole, parts = (Outputs(tmp_path / name, EVERYTHING) for name in ("whole", "parts"))
    predict_files(MeanPredictor(), files, whole)
    done = predict_files(MeanPredictor(stop_at), files, parts)
    assert done.status == 130
    assert len(records(parts.folder)) == done.written == stop_at // 2 * 2
    rest = MeanPredictor()
    assert predict_files(rest, files, parts, resume=True) == (7, 0, 0)
    assert rest.seen == 7 - done.written
    assert contents(parts.folder) == contents(whole.folder)


def test_a_run_that_was_killed_in_a_line_of_its_journal_goes_on(files, tmp_path):
    out = Outputs(tmp_path / "out")
    predict_files(MeanPredictor(4), files, out)
    journal = tmp_path / "out" / JOURNAL_NAME
    journal.write_bytes(journal.read_bytes()[:-10])
    rest = MeanPredictor()
    predict_files(rest, files, out, resume=True)
    assert rest.seen == 4
    assert [record["file"] for record in records(out.folder)] == [str(f) for f in files]


@pytest.mark.parametrize(
    "lines",
    [
        *["[" * 100_000, "9" * 5000, '{"settings": 3}', '{"settings": {}}\n3'],
        *['{"settings": {}}\n{"file": []}', '{"settings": {}}\n{"file": "a"}'],
        '{"settings": {}}\n{"file": "a", "width": 1, "height": 1, "detections": [{"box": ["x"]}]}',
    ],
)
def test_a_journal_of_something_else_is_named(tmp_path, lines):
    (tmp_path / "journal").write_text(lines + "\n")
    with pytest.raises(UserError, match="journal is no record of a run"):
        Journal(tmp_path / "journal", {}, ["a"]).resume()


def test_a_run_goes_on_with_the_same_settings_only(files, tmp_path):
    out = Outputs(tmp_path / "out")
    predict_files(MeanPredictor(4, threshold=0.3), files, out)
    with pytest.raises(UserError, match=r"threshold was 0\.3, now it is 0\.4"):
        predict_files(MeanPredictor(threshold=0.4), files, out, resume=True)
    with pytest.raises(UserError, match="save was"):
        predict_files(MeanPredictor(threshold=0.3), files, Outputs(out.folder, ()), resume=True)
    (out.folder / JOURNAL_NAME).write_text("[]\n")
    with pytest.raises(UserError, match="is no record of a run"):
        predict_files(MeanPredictor(threshold=0.3), files, out, resume=True)


def test_broken_files_are_left_out_and_tried_again_on_resume(files, tmp_path):
    out, broken, skipped = Outputs(tmp_path / "out"), files[2], []
    content = broken.read_bytes()
    broken.write_bytes(content[:40])
    done = predict_files(
        MeanPredictor(), files, out, skip=lambda name, error: skipped.append((name, str(error)))
    )
    assert done == (6, 1, 0)
    ((name, error),) = skipped
    assert name == str(broken) and str(broken) in error
    broken.write_bytes(content)
    again = MeanPredictor()
    assert predict_files(again, files, out, resume=True) == (7, 0, 0)
    assert again.seen == 1
    assert [record["file"] for record in records(out.folder)] == [str(f) for f in files]
    assert not (out.folder / JOURNAL_NAME).exists()


def test_a_video_becomes_a_video_and_a_record_of_each_frame(video, tmp_path):
    out = Outputs(tmp_path / "out", ("pictures", "yolo"))
    assert predict_files(MeanPredictor(), [video], out) == (10, 0, 0)
    frames = list(read_frames(str(out.folder / "clip.mp4")))
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 10
    # The drawn box of the whole picture is coloured, the frames are grey.
    assert all((frame.max(axis=2) - frame.min(axis=2)).max() > 60 for frame in frames)
    names = [record["file"] for record in records(out.folder)]
    assert names == [f"{video}#{number:06d}" for number in range(10)]
    assert len(list((out.folder / "labels").glob("clip_0000??.txt"))) == 10


def test_a_video_goes_on_where_it_was_interrupted(video, tmp_path):
    out = Outputs(tmp_path / "out")
    predict_files(MeanPredictor(6), [video], out)
    assert len(list(read_frames(str(out.folder / "clip.mp4")))) == 6
    rest = MeanPredictor()
    predict_files(rest, [video], out, resume=True)
    assert rest.seen == 4
    assert len(list(read_frames(str(out.folder / "clip.mp4")))) == 10


def test_names_that_are_no_text_are_escaped(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in (b"B\xe4r.png", b"esc\x1b[31m\nerror: x.png"):
        Image.new("RGB", (48, 40)).save(bytes(folder) + b"/" + name, format="png")
    out = Outputs(tmp_path / "out", ("pictures", "csv", "coco", "yolo"))
    done = predict_files(MeanPredictor(), find_files([folder]), out)
    assert done == (2, 0, 0)
    names = [record["file"] for record in records(out.folder)]
    assert names == [f"{folder}/B\\xe4r.png", f"{folder}/esc\x1b[31m\nerror: x.png"]
    assert b"B\xe4r.png" in {bytes(p.relative_to(out.folder)) for p in out.folder.iterdir()}


def test_results_of_one_name_and_inputs_are_never_replaced(files, tmp_path):
    second = tmp_path / "second" / "0.png"
    second.parent.mkdir()
    Image.new("RGB", (8, 8)).save(second)
    out = Outputs(tmp_path / "out")
    with pytest.raises(UserError, match="would both be written to"):
        predict_files(MeanPredictor(), [*files, second], out)
    with pytest.raises(UserError, match="would be replaced"):
        predict_files(MeanPredictor(), files, Outputs(files[0].parent))
    other = Path(str(second).replace(".png", ".jpg"))
    with pytest.raises(UserError, match=r"would both be written to labels/0\.txt"):
        predict_files(MeanPredictor(), [second, other], Outputs(out.folder, ("yolo",)))
    assert not out.folder.exists()


def test_a_folder_that_cannot_be_written_is_named(files, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to .*file/out"):
        predict_files(MeanPredictor(), files, Outputs(tmp_path / "file" / "out"))
