"""How much work a pickle asks for, found before it is unpickled.

A few hundred bytes can ask for hours: tuples that hold the same tuple twice, thirty levels deep,
are hashed as a tree. So a stream is walked once, in time linear in its size, with a number in the
place of each object: the size that it has written out as a tree.
"""

from __future__ import annotations

import pickle
import pickletools
from typing import IO, Any

# Files of real runs stay far below: each level of nesting adds their size once.
_WORK, _WORK_PER_BYTE = 10_000_000, 30

_INTO_THE_FIRST = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")

Size = list[int]  # of one object, in a list, because containers grow
_MARK: Size = []


def check_cost(stream: IO[bytes]) -> None:
    """Walk the pickle that a stream is at, and return to its start.

    Raises:
        pickle.UnpicklingError: it asks for more work or memory than a file of its size may.
    """
    start = stream.tell()
    stack: list[Size] = []
    memo: dict[int, Size] = {}
    work = 0
    argument: Any
    for opcode, argument, position in pickletools.genops(stream):
        read = (position or 0) - start
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            index = len(memo) if argument is None else argument
            if index > read:  # pickle would make a table of that length
                raise pickle.UnpicklingError(f"entry {index} of a table within {read} bytes")
            memo[index] = stack[-1]
        elif opcode.name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif opcode.name == "MARK":
            stack.append(_MARK)
        elif opcode.name == "DUP":
            stack.append(stack[-1])
        else:
            taken = _take(stack, opcode)
            added = sum(size[0] for size in taken)
            work += added
            if opcode.name in _INTO_THE_FIRST:
                taken[0][0] = added
                stack.append(taken[0])
            else:
                length = len(argument) if isinstance(argument, (str, bytes, bytearray)) else 0
                stack += [[1 + added + length] for _ in opcode.stack_after]
        if work > _WORK + _WORK_PER_BYTE * read:
            raise pickle.UnpicklingError(f"{read} bytes ask for more than {work} steps")
    stream.seek(start)


def _take(stack: list[Size], opcode: Any) -> list[Size]:
    """Remove what an opcode takes from the stack."""
    before = opcode.stack_before
    if pickletools.markobject not in before:
        return [stack.pop() for _ in before][::-1]
    taken = []
    while (size := stack.pop()) is not _MARK:
        taken.append(size)
    taken += [stack.pop() for _ in before[: before.index(pickletools.markobject)]]
    return taken[::-1]
