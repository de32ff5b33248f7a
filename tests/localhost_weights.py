"""Run a command for which a file on localhost is the published checkpoint of vfnet_R50_1x.

    python tests/localhost_weights.py http://127.0.0.1:PORT FILE demo/demo.py ARGUMENT...

Only the file's place is another: the model's name becomes a URL of openmmlab's host as ever, and
download, check of the hash, conversion and all that the command does are the real ones.
"""

import runpy
import sys

import iopath.common.file_io as file_io

from vfnet.model_zoo import published

HOST = "https://download.openmmlab.com"


def main(server, file, *command):
    rows = [
        row._replace(weights=f"{HOST}/mmdetection/v2.0/vfnet/{file}")
        for row in published.published_models()
        if row.config == "vfnet_R50_1x"
    ]
    published.published_models = lambda: rows
    download = file_io.download

    def from_localhost(url, *args, **kwargs):
        assert url.startswith(HOST)
        return download(server + url[len(HOST) :], *args, **kwargs)

    file_io.download = from_localhost
    sys.argv = list(command)
    runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
