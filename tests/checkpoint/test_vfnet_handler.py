"""vfnet://NAME: published files by config name, downloaded once, checked and converted."""

import hashlib
import multiprocessing
import shutil
from pathlib import Path

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils.file_io import PathManager

from tests.checkpoint.loading import refused
from vfnet.checkpoint import VFNetCheckpointer
from vfnet.errors import UserError
from vfnet.model_zoo import published
from vfnet.model_zoo.handler import register_vfnet_handler

HOST = "https://download.openmmlab.com/mmdetection/v2.0/vfnet"


@pytest.fixture
def served(tmp_path, monkeypatch):
    """What the host would send, by URL; "requests" holds a line for each download."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    files: dict[str, Path] = {}

    def download(url, folder, *, filename):
        with open(tmp_path / "requests", "a") as stream:
            stream.write(f"{url}\n")
        if url not in files:
            raise OSError("HTTP Error 404: Not Found")
        target = Path(folder) / filename
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(files[url], target)
        return str(target)

    monkeypatch.setattr("iopath.common.file_io.download", download)
    # It knows what this process has downloaded before.
    monkeypatch.setattr(PathManager._path_handlers["https://"], "cache_map", {})
    return files


@pytest.fixture
def miniature(repository, monkeypatch, served):
    """Publish tests/reference/mini_r50.pth as `mini`; returns its URL."""
    file = repository / "tests" / "reference" / "mini_r50.pth"
    url = f"{HOST}/mini_20201027pth-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.pth"
    served[url] = file
    rows = published.published_models()
    mini = rows[0]._replace(config="mini", weights=url)
    monkeypatch.setattr(published, "published_models", lambda: [*rows, mini])
    return url


def requests(tmp_path):
    return (tmp_path / "requests").read_text().splitlines()


def cls_bias(repository):
    file = repository / "tests" / "reference" / "mini_r50.pth"
    return torch.load(file, weights_only=True)["state_dict"]["bbox_head.vfnet_cls.bias"]


@pytest.mark.parametrize("checkpointer", [DetectionCheckpointer, VFNetCheckpointer])
@pytest.mark.parametrize("path", ["vfnet://mini", "vfnet://mini.yaml", "vfnet:mini", "vfnet:/mini"])
def test_every_form_of_the_path_loads(miniature, checkpointer, path, make_model, repository):
    model = make_model()
    checkpointer(model).load(path)
    assert torch.equal(model.head.cls_pred.bias, cls_bias(repository))


def test_the_file_is_downloaded_once(miniature, tmp_path):
    handler = PathManager._path_handlers["https://"]
    first = PathManager.get_local_path("vfnet://mini")
    handler.cache_map.clear()  # as in another process
    assert PathManager.get_local_path("vfnet://mini") == first
    with PathManager.open("vfnet://mini", "rb") as stream:
        assert "model" in torch.load(stream, weights_only=True)
    assert requests(tmp_path) == [miniature]


def test_a_damaged_download_is_refused_and_the_next_try_downloads_afresh(
    miniature, served, make_model, tmp_path, repository
):
    good, bad = served[miniature], tmp_path / "bad.pth"
    bad.write_bytes(good.read_bytes()[:-1] + b"x")
    served[miniature] = bad
    expected, found = miniature[-12:-4], hashlib.sha256(bad.read_bytes()).hexdigest()[:8]
    message = refused(make_model(), "vfnet://mini", f"begins with {expected}, got .*{found}")
    assert miniature in message
    assert not list((tmp_path / "cache").rglob("*.pth"))

    served[miniature] = good
    model = make_model()
    VFNetCheckpointer(model).load("vfnet://mini")
    assert torch.equal(model.head.cls_pred.bias, cls_bias(repository))
    assert requests(tmp_path) == [miniature, miniature]


def test_a_file_that_became_damaged_in_the_cache_is_refused(miniature, tmp_path):
    PathManager.get_local_path("vfnet://mini")
    (cached,) = (tmp_path / "cache").rglob("mini_*.pth")
    cached.write_bytes(b"damaged")
    with pytest.raises(UserError, match="damaged"):
        PathManager.get_local_path("vfnet://mini")
    assert not cached.exists()
    PathManager.get_local_path("vfnet://mini")


def test_torchvisions_files_are_checked_too(served, repository):
    url = "https://download.pytorch.org/models/resnet101-63fe2227.pth"
    served[url] = repository / "tests" / "reference" / "mini_r50.pth"
    with pytest.raises(UserError, match="resnet101-63fe2227.pth.*begins with 63fe2227, got"):
        PathManager.get_local_path(f"mmdet://{url}")


def ask(barrier, answers):
    barrier.wait()
    answers.put(PathManager.get_local_path("vfnet://mini"))


@pytest.mark.filterwarnings("ignore:.*fork")
def test_eight_processes_that_ask_at_once_download_once(miniature, tmp_path):
    context = multiprocessing.get_context("fork")  # importing Detectron2 anew takes seconds each
    barrier, queue = context.Barrier(8), context.Queue()
    processes = [context.Process(target=ask, args=(barrier, queue)) for _ in range(8)]
    for process in processes:
        process.start()
    answers = {queue.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    (converted,) = answers
    assert "model" in torch.load(converted, weights_only=True)
    assert requests(tmp_path) == [miniature]


def test_every_published_name_asks_for_its_file_and_checks_it(served, repository, tmp_path):
    models = [model for model in published.published_models() if model.weights]
    assert len(models) == 8 + 37
    for model in models:
        served[model.weights] = repository / "tests" / "reference" / "mini_r50.pth"
        expected = model.weights[-12:-4]
        with pytest.raises(UserError, match=f"begins with {expected}, got one with"):
            PathManager.get_local_path(f"vfnet://{model.config}")
    assert requests(tmp_path) == [model.weights for model in models]


def test_an_unreachable_host_is_an_error_with_the_address(served):
    with pytest.raises(UserError, match=f"{HOST}.*38db6f58.pth cannot be fetched .*404"):
        PathManager.get_local_path("vfnet://vfnet_R50_1x")


def test_weights_that_only_the_authors_have_are_pointed_to(served):
    for model in published.published_models():
        if not model.weights:
            with pytest.raises(UserError, match=f"{model.config} .*{model.page} .*mmdet://FILE"):
                PathManager.get_local_path(f"vfnet://{model.config}")


@pytest.mark.parametrize("name", ["vfnet_R51_1x", "", "ablation/vfnet_R50_1x_raw"])
def test_an_unknown_name_lists_those_there_are(served, name):
    with pytest.raises(UserError) as caught:
        PathManager.get_local_path(f"vfnet://{name}")
    for model in published.published_models():
        assert (f" {model.config}" in str(caught.value)) == bool(model.weights)


def test_registering_again_changes_nothing(miniature):
    register_vfnet_handler()
    assert PathManager.get_local_path("vfnet://mini")
