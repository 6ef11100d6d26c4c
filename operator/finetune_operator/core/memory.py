"""What was parsed before, for as long as it is asked for again soon.

A new job has five passes within seconds, and parsing its spec was a third of each plan. The answer is a pure function
of the document: the name only says where to look, and what is found there counts when the document is the same. A copy
is kept, so a caller that changes the document later gets what it then says.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_KEPT = 1024


class Memory(Generic[T]):
    """Of a function whose result nobody changes; errors are not kept."""

    def __init__(self, parse: Callable[[Any], T], *, kept: int = _KEPT) -> None:
        self._parse, self._kept = parse, kept
        self._known: OrderedDict[str, tuple[Any, T]] = OrderedDict()

    def __call__(self, name: str, document: Any) -> T:
        found = self._known.get(name)
        if found is not None and found[0] == document:
            self._known.move_to_end(name)
            return found[1]
        parsed = self._parse(document)
        self._known[name] = deepcopy(document), parsed
        self._known.move_to_end(name)
        if len(self._known) > self._kept:
            self._known.popitem(last=False)
        return parsed
