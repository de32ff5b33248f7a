"""The page, laid out and wired with Gradio 6."""

import json
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import gradio as gr

from ..visualization import write_picture
from ..writers import to_record
from .detection import Found, Problem, Request, describe, draw, has_stars, update
from .detectors import LOWEST_SCORE, Detectors
from .uploads import MOST_MEGABYTES, MOST_MEGAPIXELS, Upload

_TITLE = "VFNet: objects in your pictures"
_WELCOME = "Upload a picture, drop it on the field, or paste it from the clipboard."
_SLICE_SIZES = [("off", 0), *((f"{size} px", size) for size in (320, 480, 640, 960))]
_SLICES_INFO = "Large pictures with small objects: the detector looks at squares of this size."
_NO_SAHI = 'Needs the extra sahi: pip install -e ".[sahi]" where the page runs.'
_DETECTOR_INFO = "Published ones are downloaded when first used."
_STARS_INFO = "The nine points at which the detector read each object."
_NO_STARS = "Slices have none, nor have detectors that read at no such points."
# Pixels from which PNG, which loses nothing, takes too long.
_LARGE_PICTURE = 4_000_000
# Seconds: how often old files are looked for, and how old they are then.
_CLEANING = (300, 1800)


def build_page(detectors: Detectors, folder: Path) -> gr.Blocks:
    """Lay out the page.

    Args:
        detectors: offered; the first is chosen.
        folder: of Gradio's temporary files, GRADIO_TEMP_DIR; results are written there.
    """
    sliceable = find_spec("sahi") is not None
    with gr.Blocks(title=_TITLE, analytics_enabled=False, delete_cache=_CLEANING) as page:
        gr.Markdown(f"# {_TITLE}")
        found = gr.State(time_to_live=_CLEANING[1])
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                picture = gr.Image(
                    label=f"Picture (up to {MOST_MEGAPIXELS} million pixels, {MOST_MEGABYTES} MB)",
                    sources=["upload", "clipboard"],
                    buttons=[],
                    height=300,
                    elem_id="picture",
                )
                # Gradio's own opens the file before anybody can say what is wrong with it.
                picture.preprocess = _to_upload
                model = gr.Dropdown(
                    detectors.labels, label="Detector", info=_DETECTOR_INFO, elem_id="detector"
                )
                threshold = gr.Slider(
                    *(LOWEST_SCORE, 1.0, 0.3, 0.01), label="Lowest score shown", elem_id="threshold"
                )
                stars = gr.Checkbox(label="Star points", info=_STARS_INFO, elem_id="stars")
                slices = gr.Dropdown(
                    _SLICE_SIZES,
                    value=0,
                    label="Slices",
                    info=_SLICES_INFO if sliceable else _NO_SAHI,
                    interactive=sliceable,
                    elem_id="slices",
                )
            with gr.Column(scale=5, min_width=320):
                text = gr.Textbox(_WELCOME, label="Found", lines=2, max_lines=4, elem_id="found")
                result = gr.Image(
                    label="Detections", buttons=["fullscreen"], height=590, elem_id="result"
                )
                with gr.Row():
                    save_picture = gr.DownloadButton("Download picture", interactive=False)
                    save_json = gr.DownloadButton("Download json", interactive=False)

        shown = {
            "fn": partial(_show, folder),
            "inputs": [found, threshold, stars],
            "outputs": [result, text, save_picture, save_json],
            "api_visibility": "private",
            "show_progress": "hidden",
        }
        gr.on(
            [control.change for control in (picture, model, slices, stars)],
            partial(_update, detectors),
            inputs=[found, picture, model, slices, stars],
            outputs=[found, stars],
            # A detector takes all cores, and the memory of one picture.
            concurrency_id="detector",
            concurrency_limit=1,
            trigger_mode="always_last",
            show_progress_on=[result],
            api_visibility="private",
        ).then(**shown)
        threshold.change(**shown, trigger_mode="always_last")
    for block in page.blocks.values():
        own = block.async_move_resource_to_block_cache
        block.async_move_resource_to_block_cache = partial(_take_file, own)
    return page.queue(max_size=32, default_concurrency_limit=2, api_open=False)


def launch(page: gr.Blocks, host: str = "127.0.0.1", port: int | None = None) -> str:
    """Serve the page, in a thread, until it is closed -> its address.

    To this machine alone unless `host` asks; no link from outside, and no files but the page's own.
    """
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        share=False,
        quiet=True,
        show_error=False,
        max_file_size=MOST_MEGABYTES * 2**20,
        allowed_paths=[],
        state_session_capacity=8,
        enable_monitoring=False,
        run_history=False,
        mcp_server=False,
        ssr_mode=False,
        footer_links=[],
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
    )
    return address


async def _take_file(own: Callable[..., Awaitable[str | None]], place: str | None) -> str | None:
    """Gradio's own, but for addresses: a request may name one, which Gradio would load."""
    if place is not None and "://" in str(place):
        raise gr.Error("expected an uploaded file, not an address")
    return await own(place)


def _to_upload(payload: Any) -> Upload | None:
    if payload is None or payload.path is None:
        return None
    return Upload(payload.path, payload.orig_name or "picture")


def _update(
    detectors: Detectors,
    before: Found | Problem | None,
    upload: Upload | None,
    label: str,
    slice_size: int,
    with_stars: bool,
) -> tuple[Found | Problem | None, dict[str, Any]]:
    found = update(detectors, Request(upload, label, slice_size), with_stars, before)
    usable = not slice_size and (not isinstance(found, Found) or has_stars(detectors.load(label)))
    return found, gr.update(interactive=usable, info=_STARS_INFO if usable else _NO_STARS)


def _show(
    folder: Path, found: Found | Problem | None, score: float, with_stars: bool
) -> tuple[str | None, str, dict[str, Any], dict[str, Any]]:
    if not isinstance(found, Found):
        nothing = gr.update(value=None, interactive=False)
        return None, _WELCOME if found is None else found.message, nothing, nothing
    upload = found.request.upload
    assert upload is not None, "what was found was found in a picture"
    files = Path(mkdtemp(dir=folder)) / f"{upload.stem}_detections"
    drawn = draw(found, score, with_stars)
    large = drawn.shape[0] * drawn.shape[1] > _LARGE_PICTURE
    picture, record = files.with_suffix(".jpg" if large else ".png"), files.with_suffix(".json")
    write_picture(picture, drawn)
    content = {
        **to_record(upload.name, found.above(score), found.class_names),
        "detector": found.request.label,
        "lowest_score": score,
    }
    record.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    buttons = [gr.update(value=str(file), interactive=True) for file in (picture, record)]
    return str(picture), describe(found, score), buttons[0], buttons[1]
