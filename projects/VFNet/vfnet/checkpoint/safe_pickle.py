"""Unpickling without executing: the part that all kinds of files share.

A pickle is a program: it may name any function of any installed package and have it called. A
`SafeUnpickler` lets it name what a table holds; all else becomes a `Placeholder`.
"""

from __future__ import annotations

import pickle
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

from ..errors import UserError
from .pickle_cost import check_cost


def unreadable(file: str, error: BaseException, advice: str = "") -> UserError:
    """The error for a file that is no checkpoint, with more `advice` than to get it anew."""
    # The first line alone: torch appends advice that does not apply here.
    reason = (str(error).strip().splitlines() or ["no message"])[0]
    return UserError(
        f"{file} cannot be read as a checkpoint: it is truncated, damaged or of another kind "
        f"({type(error).__name__}: {reason}). Copy or download it again{advice}"
    )


class Placeholder:
    """Stands for an object of the file that is neither a tensor nor a plain container.

    Takes every call and every change that unpickling can ask for, and does nothing.
    """

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Placeholder:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    # Static, because a pickle may also call these on the class itself.
    @staticmethod
    def _nothing(*args: Any, **kwargs: Any) -> None:
        pass

    __setstate__ = append = extend = add = _nothing

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> Placeholder:
        return Placeholder()

    def __iter__(self) -> Iterator[Any]:
        return iter(())


class Function:
    """A function that a file may call and cannot change.

    A pickle can set attributes of what it names; a plain function would keep them.
    """

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        pass


def _encode(text: str, encoding: str) -> bytes:
    """How pickle protocol 2 writes bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes are written as latin1, not as {encoding}")
    return text.encode("latin1")


def _bytes(*content: Any) -> bytes:
    """Unlike the types, which a number in the file has make as many bytes."""
    if any(isinstance(part, int) for part in content):
        raise pickle.UnpicklingError("bytes by their number alone")
    return bytes(*content)


def _bytearray(*content: Any) -> bytearray:
    return bytearray(_bytes(*content))


# Plain containers. The types are built in: a file cannot change them.
PLAIN_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "Counter"): Function(Counter),
    ("_codecs", "encode"): Function(_encode),
    **{
        (module, plain.__name__): plain
        for module in ("builtins", "__builtin__")
        for plain in (set, frozenset, list, dict, tuple, complex)
    },
    **{
        (module, name): Function(function)
        for module in ("builtins", "__builtin__")
        for name, function in (("bytes", _bytes), ("bytearray", _bytearray))
    },
}


class SafeUnpickler(pickle.Unpickler):
    """An unpickler that knows the names of a table and puts a `Placeholder` for any other.

    With `refuse_foreign` any other is an error. The stream must be seekable.
    """

    known: Mapping[tuple[str, str], Any] = PLAIN_NAMES
    refuse_foreign = False

    def __init__(self, stream: IO[bytes], **options: Any) -> None:
        check_cost(stream)
        super().__init__(stream, **options)

    def find_class(self, module: str, name: str) -> Any:
        if self.refuse_foreign and (module, name) not in self.known:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no weight")
        return self.known.get((module, name), Placeholder)
