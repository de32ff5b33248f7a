"""Weights as safetensors: names, shapes and numbers, and nothing that could be executed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from ..utils.files import write_aside

SUFFIX = ".safetensors"

# What a converted file says beside its weights; the format keeps it as text.
_NOTES = ("__author__", "class_names", "matching_heuristics", "mmdet_source")


def read_safetensors(file: str) -> dict[str, Any]:
    """Read what `write_safetensors` or another program wrote; the tensors are mapped from the disk.

    Returns:
        as a torch file of the same content: with weights under `model` where there are notes, else
        the weights themselves.

    Raises:
        Exception: of many types, for a damaged file.
    """
    weights = load_file(file)
    with safe_open(file, framework="pt") as opened:
        notes = json.loads((opened.metadata() or {}).get("vfnet", "{}"))
    if not isinstance(notes, dict):
        raise ValueError(f"notes that are {type(notes).__name__}, not by name")
    kept = {key: notes[key] for key in _NOTES if key in notes}
    return {**kept, "model": weights} if kept else weights


def write_safetensors(
    path: str | os.PathLike[str], model: Mapping[str, torch.Tensor], **notes: Any
) -> None:
    """Write a model's weights, and notes that json can hold, aside and renamed."""
    # The format has neither strides nor tensors that share memory.
    copies = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in model.items()
    }
    data = save(copies, metadata={"format": "pt", "vfnet": json.dumps(notes)})
    with write_aside(path) as stream:
        stream.write(data)
