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


def write_published(folder):
    """Write a file with mmdet's names and R-50's shapes, whose name ends in its hash.

    It lies below `folder` where the real one lies at its host. All that it finds are dogs.
    """
    folder = folder / "mmdetection" / "v2.0" / "vfnet"
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


@contextlib.contextmanager
def served(folder):
    """The address of a server on localhost of what lies in `folder`."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *args: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
