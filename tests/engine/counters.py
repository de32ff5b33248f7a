"""What counts the waiting for a device and the collectives of whatever runs within."""

import traceback

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten


class Synchronisations(TorchDispatchMode):
    """Notes where the host would wait for a device, which tensors on "meta" stand for.

    These have shapes and no numbers, so that an operation whose result has a shape that depends on
    numbers (`nonzero`, indexing by a mask) raises by itself. Noted are numbers that the host asks
    for, of which it gets zeros, and copies to the device that it would wait for: those that are not
    `non_blocking`, of Python's own numbers, and of indices. Whether memory is pinned cannot be seen
    here.
    """

    def __init__(self):
        super().__init__()
        self.found = []
        self._from_python = FromPython(self)

    def __enter__(self):
        self._from_python.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._from_python.__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        inputs = _tensors((args, kwargs))
        on_device = [x for x in inputs if x.is_meta]
        if on_device and function is aten._local_scalar_dense.default:
            self.note(function)
            return 0.0
        if on_device and function is aten.prod.dim_int:
            self.note(function)  # whose gradient asks a real device whether there is a 0
        if on_device and str(kwargs.get("device")) == "cpu":
            self.note(function)
            return torch.zeros_like(on_device[0], device="cpu")
        result = function(*args, **kwargs)
        if inputs and any(x.is_meta for x in _tensors(result)):
            from_host = any(x.dim() > 0 for x in inputs if not x.is_meta) or not on_device
            if from_host and not kwargs.get("non_blocking"):
                self.note(function)
        return result

    def note(self, function):
        """Note that the host waits in a function; with where it was called."""
        ours = [frame for frame in traceback.extract_stack() if __file__ != frame.filename]
        self.found.append((str(function), *(f"{f.filename}:{f.lineno}" for f in ours[-3:])))


class FromPython(TorchFunctionMode):
    """Notes tensors that are made of Python's numbers on the device, once each.

    Which operations these dispatch, if any, differs between versions of torch.
    """

    CALLS = (torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor)

    def __init__(self, seen):
        super().__init__()
        self._seen = seen

    def __torch_function__(self, function, types, args=(), kwargs=None):
        before = len(self._seen.found)
        result = function(*args, **(kwargs or {}))
        data = args[-1] if args else None
        if function in self.CALLS and result.is_meta and not isinstance(data, torch.Tensor):
            del self._seen.found[before:]
            self._seen.note(function)
        return result


def _tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


class Collectives(TorchDispatchMode):
    """Notes the names of the collectives that are called."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "c10d":
            self.found.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))
