"""vfnet.web.detectors: labels that differ and tell no path, and what is loaded when."""

import pytest

from vfnet.errors import UserError
from vfnet.model_zoo.published import published_models
from vfnet.web.detectors import Detectors, Source, own_labels


def test_labels_name_file_and_folder_alone_and_differ():
    files = [
        "/home/me/run/a.pth",
        "/other/run/a.pth",
        "run/b.onnx",
        "c.xml",
        "vfnet://vfnet_R50_1x",
    ]
    labels = own_labels([Source(file) for file in files])
    assert list(labels) == ["run: a.pth", "run: a.pth #2", "run: b.onnx", "c.xml", "vfnet_R50_1x"]
    assert [source.weights for source in labels.values()] == files


def test_the_zoo_offers_what_can_be_downloaded():
    labels = Detectors([Source("run/a.pth")]).labels
    assert labels[0] == "run: a.pth"
    configs = {label.split(" (")[0] for label in labels[1:]}
    assert configs == {row.config for row in published_models() if row.weights}
    assert "vfnet_R50_1x (COCO, AP 41.6)" in labels


def test_a_detector_is_loaded_once(detectors):
    detectors.load_own()
    (label,) = detectors.labels
    assert label == "tiny: model.pth"
    assert detectors.load(label) is detectors.load(label)
    assert detectors.load(label).class_names[0] == "nut"


def test_own_ones_stay_and_the_last_two_of_the_zoo(monkeypatch):
    opened = []
    monkeypatch.setattr(
        "vfnet.web.detectors.Predictor", lambda *names, **_: opened.append(names[0])
    )
    detectors = Detectors([Source("a.pth")])
    own, *zoo = detectors.labels[:4]
    for label in (own, *zoo, own, *zoo[1:]):
        detectors.load(label)
    assert len(opened) == 4 and opened[0] == "a.pth"
    detectors.load(zoo[0])
    assert len(opened) == 5


def test_what_is_not_offered_is_not_loaded(detectors, weights):
    with pytest.raises(UserError, match="expected one of the 1 detectors"):
        detectors.load(str(weights))


def test_own_weights_that_do_not_load_show_at_the_start(tmp_path):
    with pytest.raises(UserError, match="a.pth is not there"):
        Detectors([Source(str(tmp_path / "a.pth"))], zoo=False).load_own()
