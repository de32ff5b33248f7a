"""Detectron2's checkpointer, made to refuse what does not fit and to write nothing by halves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from torch import nn

from ..errors import UserError
from ..utils.files import write_aside
from ..utils.text import listed
from .array_file import read_arrays
from .finite import non_finite
from .fit import (
    backbone_prefix,
    class_layer_message,
    differences,
    differing_class_layer,
    has_head,
    is_optional,
    without,
    without_module_prefix,
)
from .safetensors_file import SUFFIX, write_safetensors
from .tensor_file import read_checkpoint
from .timm_weights import are_timms, backbone_weights, find_timm_backbone

# What optimizers, schedules and hooks raise where they are given the state of others.
_OF_OTHERS = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


class VFNetCheckpointer(DetectionCheckpointer):
    """A `DetectionCheckpointer` for training runs and demos.

    It differs in four ways: no file is executed (torch's are read with `weights_only=True`); a
    detector must fit the model in every name and shape, its class layer's number of classes apart,
    else nothing is loaded; bad files raise `UserError`, and so do weights that are not finite; and
    files are written aside and renamed.

    Args:
        model: the detector.
        save_dir: folder of the files that `save` writes.
        save_to_disk: whether this process writes; by default the main one does.
        whole_detector: refuse what would leave a part of the model as it was initialised: a file
            without a head, or a class layer of another number of classes. For prediction and
            evaluation; training may start from either.
        safetensors: beside NAME.pth write the weights as NAME.safetensors, but for the numbered
            checkpoints of a run, which are there to continue from.
        tag_last: name what `save` writes in `last_checkpoint`, from which --resume continues.
        checkpointables: further objects with `state_dict`, saved under their keywords.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        save_to_disk: bool | None = None,
        whole_detector: bool = False,
        safetensors: bool = False,
        tag_last: bool = True,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self._whole_detector = whole_detector
        self._safetensors = safetensors
        self._tag_last = tag_last
        self._only_check = False

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load from a path or URL, as `DetectionCheckpointer.load`; an empty path loads nothing.

        Raises:
            UserError: the file is missing or unreadable, has weights that are not finite, or is a
                checkpoint of another model (or no whole detector, if that is asked for); the model
                is then as it was. Or the state of a checkpointable is another one's.
        """
        if path:
            self._require_file(path)
        self._path = path  # for messages
        try:
            rest = super().load(path, checkpointables=[])
        finally:
            # Detectron2 resets this only after a load that succeeds, and then refuses the next.
            self._parsed_url_during_load = None
        for key in self.checkpointables if checkpointables is None else checkpointables:
            if key in rest:
                self._load_state(key, rest.pop(key))
        return rest

    def _load_state(self, key: str, state: Any) -> None:
        self.logger.info(f"Loading {key} from {self._path} ...")
        try:
            self.checkpointables[key].load_state_dict(state)
        except _OF_OTHERS as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"{self._path} holds the state of another run, with which this one cannot go on "
                f"({type(error).__name__}: {error}): continue with the config that it began with"
            ) from error

    def check(self, path: str) -> None:
        """Find out whether `load` would take a file, and load nothing.

        The model may be on the meta device. The tensors of a torch file stay on the disk, unless it
        is of the format before torch 1.6.

        Raises:
            UserError: as `load`.
        """
        self._only_check = True
        try:
            self.load(path, checkpointables=[])
        finally:
            self._only_check = False

    def save(self, name: str, **kwargs: Any) -> None:
        """Write `name`.pth and, with `tag_last`, name it in `last_checkpoint`.

        A failure leaves both as they were.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": self.model.state_dict()}
        data.update({key: obj.state_dict() for key, obj in self.checkpointables.items()})
        data.update(kwargs)
        basename = f"{name}.pth"
        save_file = os.path.join(self.save_dir, basename)
        self.logger.info(f"Saving checkpoint to {save_file}")
        if self._safetensors and not name[-1:].isdigit():
            # First, so that a run that is stopped in between writes it when it goes on.
            write_safetensors(os.path.join(self.save_dir, f"{name}{SUFFIX}"), data["model"])
        with write_aside(save_file) as stream:
            torch.save(data, stream)
        if self._tag_last:
            self.tag_last_checkpoint(basename)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Name the newest checkpoint in the file `last_checkpoint`."""
        with write_aside(os.path.join(self.save_dir, "last_checkpoint")) as stream:
            stream.write(last_filename_basename.encode())

    def _require_file(self, path: str) -> None:
        without_query = path.split("?", 1)[0]
        try:
            local = self.path_manager.get_local_path(without_query)
        except OSError as error:
            raise UserError(
                f"the weights {path} cannot be fetched ({error}): download them elsewhere and set "
                "MODEL.WEIGHTS to the file, or MODEL.WEIGHTS \"''\" to start without"
            ) from error
        if not os.path.isfile(local):
            raise UserError(
                f"there is no checkpoint at {path}: set MODEL.WEIGHTS to an existing file or URL"
            )

    def _load_file(self, filename: str) -> dict[str, Any]:
        if filename.endswith(".pkl"):
            loaded = self._load_pkl(filename)
        elif filename.endswith(".pyth"):
            loaded = self._load_pyth(filename)
        else:
            loaded = super()._load_file(filename)
        model = loaded["model"]
        if isinstance(model, Mapping) and isinstance(model.get("state_dict"), Mapping):
            if find_timm_backbone(self.model):  # what timm's training writes
                return {"model": model["state_dict"]}
            raise UserError(
                f"{filename} looks like a checkpoint of mmdet: set MODEL.WEIGHTS to "
                f"mmdet://{filename}, which converts it"
            )
        if not isinstance(model, dict) or not all(
            isinstance(name, str) and hasattr(value, "shape") for name, value in model.items()
        ):
            raise UserError(
                f"expected a checkpoint with tensors by name under 'model' in {filename}, found "
                "something else: give a checkpoint of this project, Detectron2 or (mmdet://) mmdet"
            )
        return loaded

    def _load_pkl(self, filename: str) -> dict[str, Any]:
        """As Detectron2, which would execute the file: its model zoo's format, else Caffe2's."""
        content = read_arrays(filename)
        if "model" in content and "__author__" in content:
            return content
        blobs = content.get("blobs", content)  # ImageNet models have none
        return _guessed("Caffe2", blobs, dropped="_momentum")

    def _load_pyth(self, filename: str) -> dict[str, Any]:
        """As Detectron2, whose `torch.load` executes the file where torch is older than 2.6."""
        weights = self._torch_load(filename).get("model_state")
        return _guessed("pycls", weights, dropped="num_batches_tracked")

    def _torch_load(self, f: str) -> dict[str, Any]:
        return read_checkpoint(f, refuse_foreign=True, mmap=self._only_check)

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        allowed = self._fit(checkpoint)
        if names := list(non_finite(checkpoint["model"])):
            raise UserError(
                f"{self._path} holds weights that are NaN, infinite or no real numbers, in "
                f"{listed(names)}; nothing was loaded. Take a checkpoint from before they became so"
            )
        if self._only_check:
            return None
        incompatible = super()._load_model(checkpoint)
        if allowed is not None:
            # All that is missing or too much now was meant to be: Detectron2 would warn of it.
            for names in (incompatible.missing_keys, incompatible.unexpected_keys):
                names[:] = [n for n in names if not is_optional(n) and n not in allowed]
        return incompatible

    def _fit(self, checkpoint: dict[str, Any]) -> list[str] | None:
        """Bring `checkpoint["model"]` under the model's names, or refuse it.

        Returns:
            names that may be missing after loading; None where names were guessed, so that
            Detectron2 has to say which ones it did not find.
        """
        weights = without_module_prefix(checkpoint["model"])
        backbone, weights = self._of_timm(weights)
        if self._whole_detector:
            self._require_head(weights)
        if self._whole_detector or backbone is not None:
            # Guessed names may leave a part of the model as it was: all have to fit.
            checkpoint.pop("matching_heuristics", None)
        current = self.model.state_dict()
        if checkpoint.get("matching_heuristics", False):
            del checkpoint["matching_heuristics"]
            if checkpoint.get("__author__") != "mmdet":
                checkpoint["model"] = self._guess(checkpoint, current)
                return None
            # A converted backbone needs no guesses: its names lack only what stands before them.
            backbone = backbone_prefix(weights, current)
            weights = {f"{backbone}{name}": value for name, value in weights.items()}
        other_classes = [] if self._whole_detector else differing_class_layer(weights, current)
        problems = differences(weights, current, other_classes, backbone)
        if problems:
            raise UserError(
                f"{self._path} does not fit this model; nothing was loaded. {'; '.join(problems)}. "
                "Use the config that the weights were trained with"
            )
        if other_classes:
            self.logger.info(class_layer_message(weights, current))
        checkpoint["model"] = without(weights, other_classes)
        return other_classes

    def _of_timm(self, weights: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """Give the weights of a model of timm the names that this detector's backbone has.

        Returns:
            what these names begin with, and the weights; None, and what came, where either is none
            of timm.
        """
        found = find_timm_backbone(self.model)
        if found is None or not are_timms(weights):
            return None, weights
        prefix, backbone = found
        own, left = backbone_weights(weights, backbone)
        if left and not self._only_check:
            self.logger.info(f"{self._path}: left over {', '.join(left)}, of timm's classifier")
        return prefix, {f"{prefix}{name}": value for name, value in own.items()}

    def _require_head(self, weights: Mapping[str, Any]) -> None:
        if not has_head(weights):
            raise UserError(
                f"expected a whole detector in {self._path}, found no weights of a head, without "
                "which it would predict at random; nothing was loaded. Set MODEL.WEIGHTS to a "
                "trained detector"
            )

    def _guess(self, checkpoint: dict[str, Any], current: dict[str, Any]) -> dict[str, Any]:
        """Give the weights of a backbone trained on ImageNet the names that Detectron2 guesses."""
        weights = checkpoint["model"]
        self._convert_ndarray_to_tensor(weights)
        is_caffe2 = checkpoint.get("__author__") == "Caffe2"
        guessed = align_and_update_state_dicts(current, weights, c2_conversion=is_caffe2)
        parameters = {name: p.shape for name, p in self.model.named_parameters()}
        if not any(value.shape == parameters.get(name) for name, value in guessed.items()):
            raise UserError(
                f"{self._path} does not fit this model: none of its names do, and nothing was "
                "loaded. Give the weights of a backbone of this kind"
            )
        return guessed


def _guessed(author: str, weights: Any, dropped: str) -> dict[str, Any]:
    """Foreign weights, whose names Detectron2 guesses, without those that end in `dropped`."""
    if isinstance(weights, Mapping):
        weights = {k: v for k, v in weights.items() if not str(k).endswith(dropped)}
    return {"model": weights, "__author__": author, "matching_heuristics": True}
