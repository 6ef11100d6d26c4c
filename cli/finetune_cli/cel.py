"""The part of CEL that our CRDs speak, so that a rule of the API server is asked here as it is written there.

The rules exist once, in the CRDs. Mirroring them as validators would let the two drift, and a complete CEL in Python
brings a parser generator and a regular expression library in C++; the dialect below is what the rules use, and a test
evaluates every rule of both CRDs with it. What it does not know raises `CelError` when the rule is compiled.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

Env = Mapping[str, Any]
Program = Callable[[Env], Any]


class CelError(ValueError):
    """A rule that cannot be read, or that asks for a field which is not there."""


_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+)|(?P<string>'[^']*'|\"[^\"]*\")|(?P<name>(?!in\b)[A-Za-z_]\w*)|(?P<op>in\b|&&|\|\||[!=<>]=|[-!<>%+*()\[\],.?:]))"
)
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt,
    "in": lambda item, items: item in items,
}  # fmt: skip
_SUM: dict[str, Callable[[Any, Any], Any]] = {"+": operator.add, "-": operator.sub}
_PRODUCT: dict[str, Callable[[Any, Any], Any]] = {"*": operator.mul, "%": operator.mod}
_METHODS: dict[str, Callable[..., Any]] = {
    "size": len,
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "contains": lambda text, part: part in text,
    "replace": str.replace,
    "matches": lambda text, pattern: re.search(pattern, text) is not None,
}
_MACROS: dict[str, Callable[[list[Any], list[Any]], Any]] = {
    "all": lambda _items, found: all(found),
    "exists": lambda _items, found: any(found),
    "filter": lambda items, found: [item for item, kept in zip(items, found, strict=True) if kept],
    "map": lambda _items, found: found,
}
_WORDS = {"true": True, "false": False, "null": None}


@lru_cache(maxsize=256)
def compile_rule(text: str) -> Program:
    """Raises CelError for what lies outside the dialect."""
    parser = _Parser(_tokens(text))
    program = parser.either()
    if parser.ahead is not None:
        raise CelError(f"{text!r}: did not expect {parser.ahead[1]!r}")
    return program


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at, text = [], 0, text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise CelError(f"{text!r}: cannot be read from {text[at:]!r} on")
        kind = str(match.lastgroup)
        found.append((kind, match[kind]))
        at = match.end()
    return found


def _chosen(value: Any, name: str) -> Any:
    if not isinstance(value, Mapping) or name not in value:
        raise CelError(f"no such field: {name}")
    return value[name]


class _Parser:
    """Recursive descent; each method returns a program for one level of precedence."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens, self._at = tokens, 0

    @property
    def ahead(self) -> tuple[str, str] | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take(self, text: str | None = None) -> str:
        token = self.ahead
        if token is None or (text is not None and token[1] != text):
            raise CelError(f"expected {text or 'more'}, found {token[1] if token else 'the end'}")
        self._at += 1
        return token[1]

    def _is(self, *texts: str) -> bool:
        return self.ahead is not None and self.ahead[0] == "op" and self.ahead[1] in texts

    def either(self) -> Program:
        chosen = self._any()
        if not self._is("?"):
            return chosen
        self._take()
        yes = self.either()
        self._take(":")
        no = self.either()
        return lambda env: yes(env) if chosen(env) else no(env)

    def _any(self) -> Program:
        left = self._both()
        while self._is("||"):
            self._take()
            left = (lambda a, b: lambda env: a(env) or b(env))(left, self._both())
        return left

    def _both(self) -> Program:
        left = self._binary(_COMPARE, lambda: self._binary(_SUM, lambda: self._binary(_PRODUCT, self._unary)))
        while self._is("&&"):
            self._take()
            right = self._binary(_COMPARE, lambda: self._binary(_SUM, lambda: self._binary(_PRODUCT, self._unary)))
            left = (lambda a, b: lambda env: a(env) and b(env))(left, right)
        return left

    def _binary(self, operators: dict[str, Callable[[Any, Any], Any]], below: Callable[[], Program]) -> Program:
        left = below()
        while self._is(*operators):
            work = operators[self._take()]
            left = (lambda w, a, b: lambda env: w(a(env), b(env)))(work, left, below())
        return left

    def _unary(self) -> Program:
        if self._is("!"):
            self._take()
            inner = self._unary()
            return lambda env: not inner(env)
        return self._member()

    def _member(self) -> Program:
        value = self._primary()
        while self._is("."):
            self._take()
            name = self._take()
            value = (
                self._call(value, name) if self._is("(") else (lambda v, n: lambda env: _chosen(v(env), n))(value, name)
            )
        return value

    def _call(self, value: Program, name: str) -> Program:
        self._take("(")
        if name in _MACROS:
            variable = self._take()
            self._take(",")
            body, macro = self.either(), _MACROS[name]
            self._take(")")

            def over(env: Env) -> Any:
                items = list(value(env))
                return macro(items, [body({**env, variable: item}) for item in items])

            return over
        if name not in _METHODS:
            raise CelError(f"the function {name} is not known here")
        method, arguments = _METHODS[name], self._list(")")
        return lambda env: method(value(env), *(argument(env) for argument in arguments))

    def _list(self, end: str) -> list[Program]:
        found: list[Program] = []
        while not self._is(end):
            if found:
                self._take(",")
            found.append(self.either())
        self._take(end)
        return found

    def _primary(self) -> Program:
        kind, text = self.ahead or ("end", "the end")
        self._at += 1
        if kind == "number":
            return lambda _env: int(text)
        if kind == "string":
            return lambda _env: text[1:-1]
        if text == "(":
            inner = self.either()
            self._take(")")
            return inner
        if text == "[":
            items = self._list("]")
            return lambda env: [item(env) for item in items]
        if kind != "name":
            raise CelError(f"did not expect {text!r}")
        if text == "has" and self._is("("):
            return self._has()
        if text in _WORDS:
            return lambda _env: _WORDS[text]
        return lambda env: _chosen(env, text)

    def _has(self) -> Program:
        self._take("(")
        inner = self._member()
        self._take(")")

        def has(env: Env) -> bool:
            try:
                return inner(env) is not None
            except CelError:
                return False

        return has
