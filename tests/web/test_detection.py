"""vfnet.web.detection: what is computed again and what not; what is shown; what is told."""

from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from tests.engine.tiny_family import CONFIGS
from vfnet.predictor import Predictor
from vfnet.web.detection import Found, Problem, Request, describe, draw, has_stars, update
from vfnet.web.detectors import LOWEST_SCORE, Detectors, Source
from vfnet.web.uploads import Upload


@pytest.fixture
def found(detectors, pictures):
    return update(detectors, Request(pictures[0], *detectors.labels), True, None)


def test_the_same_request_is_computed_once(detectors, pictures, count_forwards):
    (label,) = detectors.labels
    forwards = count_forwards(detectors.load(label))
    first = update(detectors, Request(pictures[0], label), False, None)
    again = update(detectors, Request(pictures[0], label), False, first)
    assert again is first and forwards.number == 1
    other = update(detectors, Request(pictures[1], label), False, first)
    assert other is not first and forwards.number == 2


def test_stars_are_computed_when_wanted_and_stay(detectors, pictures, count_forwards):
    (label,) = detectors.labels
    request = Request(pictures[0], label)
    plain = update(detectors, request, False, None)
    forwards = count_forwards(detectors.load(label))
    starred = update(detectors, request, True, plain)
    assert plain.stars is None and forwards.number == 1
    assert update(detectors, request, True, starred) is starred
    assert update(detectors, request, False, starred) is starred
    torch.testing.assert_close(starred.stars.scores, plain.instances.scores)
    torch.testing.assert_close(starred.stars.boxes, plain.instances.pred_boxes.tensor)


@pytest.mark.parametrize("score", [0.3, 0.5])
def test_a_higher_threshold_shows_what_predicting_with_it_finds(found, weights, score):
    alone = Predictor(weights, confidence_threshold=score)(found.image)["instances"]
    shown = found.above(score)
    assert 0 < len(shown) < len(found.instances)
    assert len(shown) == len(alone)
    torch.testing.assert_close(shown.scores, alone.scores)


def test_no_picture_gives_nothing(detectors):
    assert update(detectors, Request(None, *detectors.labels), True, None) is None


def test_a_bad_picture_replaces_what_was_found(detectors, found, tmp_path):
    (tmp_path / "x.png").write_text("not a picture")
    request = Request(Upload(str(tmp_path / "x.png"), "x.png"), *detectors.labels)
    problem = update(detectors, request, False, found)
    assert isinstance(problem, Problem) and "x.png is none" in problem.message
    assert str(tmp_path) not in problem.message


def test_weights_that_do_not_load_are_told_without_their_place(tmp_path, pictures, caplog):
    detectors = Detectors([Source(str(tmp_path / "gone.pth"))], zoo=False)
    problem = update(detectors, Request(pictures[0], *detectors.labels), False, None)
    assert "could not be loaded" in problem.message and "/" not in problem.message
    assert str(tmp_path) in caplog.text


def test_what_nobody_foresaw_is_told_without_its_details(detectors, pictures, monkeypatch, caplog):
    (label,) = detectors.labels
    monkeypatch.setattr(detectors.load(label), "predict", lambda images: 1 / 0)
    monkeypatch.setattr(Predictor, "with_slicing", lambda self, slicing: self)
    problem = update(detectors, Request(pictures[0], label), False, None)
    assert problem == Problem("this went wrong; the terminal of the page says why")
    assert "ZeroDivisionError" in caplog.text


def test_boxes_and_points_are_drawn_on_a_readable_size(found):
    plain, starred = (draw(found, 0.5, with_stars) for with_stars in (False, True))
    assert plain.shape == starred.shape == (9 * 96, 9 * 128, 3)
    points = found.stars.best(100, 0.5).points.numpy() * 9
    inside = points[(points > 0).all(axis=2) & (points < (1152, 864)).all(axis=2)].astype(int)
    changed = (plain != starred).any(axis=2)
    assert len(inside) and changed[inside[:, 1], inside[:, 0]].mean() > 0.9
    assert 0 < changed.mean() < 0.5
    nothing = draw(found, 1.0, True)
    assert not np.array_equal(nothing, plain)


def test_counts_are_told(found):
    number = len(found.above(0.5))
    text = describe(found, 0.5)
    assert text.startswith(f"{number} objects with a score of 0.50 or more: ")
    rest = len(found.instances) - number
    assert f"{rest} more from {LOWEST_SCORE:.2f} on" in text
    assert describe(found, 1.0).startswith("0 objects with a score of 1.00 or more. ")


def test_detectors_that_read_at_no_points_have_no_stars(detectors, tmp_path):
    assert has_stars(detectors.load(*detectors.labels))
    assert not has_stars(SimpleNamespace(model=build_model(CONFIGS["atss"](tmp_path))))


@pytest.mark.skipif(find_spec("sahi") is None, reason="needs the extra 'sahi'")
def test_slices_find_more_and_have_no_stars(detectors, pictures, count_forwards):
    (label,) = detectors.labels
    forwards = count_forwards(detectors.load(label))
    found = update(detectors, Request(pictures[0], label, 64), True, None)
    assert isinstance(found, Found) and len(found.instances) and found.stars is None
    assert forwards.number > 2
