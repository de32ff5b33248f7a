"""A checkpoint as vfnet_R50_1x's published one, with random weights, and a server of it."""

import contextlib
import hashlib
import http.server
import threading
from functools import partial

import torch
from detectron2.modeling import build_model

from vfnet.checkpoint import to_mmdet_state_dict
from vfnet.model_zoo import get_config

DOG = 16
# Where the real one lies at its host.
FOLDERS = ("mmdetection", "v2.0", "vfnet")


def write_published(host):
    """Write a file with mmdet's names and R-50's shapes below `host`, a folder; it finds dogs.

    Its name ends in its hash.
    """
    folder = host.joinpath(*FOLDERS)
    folder.mkdir(parents=True)
    cfg = get_config("vfnet_R50_1x")
    cfg.MODEL.DEVICE = "cpu"
    torch.manual_seed(0)
    model = build_model(cfg)
    with torch.no_grad():
        model.head.cls_pred.bias[DOG] = 2.0  # enough to be drawn
    torch.save({"state_dict": to_mmdet_state_dict(model.state_dict())}, folder / "new.pth")
    digest = hashlib.sha256((folder / "new.pth").read_bytes()).hexdigest()
    return (folder / "new.pth").rename(folder / f"vfnet_r50_fpn_1x_coco-{digest[:8]}.pth")


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line for each."""

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(published):
    """The address of a server on localhost of the host whose file this is."""
    host = published.parents[len(FOLDERS)]
    handler = partial(QuietHandler, directory=str(host))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{running.server_port}"
        finally:
            running.shutdown()
