"""Templates of bodies, in a part of Jinja whose work is bounded, whatever the template says.

A template prints, asks, repeats and names values. It calls nothing and defines no macros; the filters are those of
`_FILTERS`. So its work is at most its own length times MOST_STEPS, and no text in it is longer than MOST_CHARACTERS.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import msgspec
from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, Undefined, nodes, pass_context
from jinja2 import Template as Compiled
from jinja2.filters import FILTERS
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MOST_CHARACTERS = 262_144
MOST_STEPS = 10_000
"""Rounds of all loops of a template together."""
_LARGEST = 10**15
_STEPS = " steps"
"""A name that no template can write."""
_LANGUAGE = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Assign, nodes.With, nodes.Name),
    *(nodes.Const, nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair, nodes.Getattr, nodes.Getitem, nodes.Slice),
    *(nodes.Filter, nodes.Test, nodes.Keyword, nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.Concat),
    *(nodes.And, nodes.Or, nodes.Not, nodes.Neg, nodes.Pos),
    *(nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod),
)
_REFUSED: Mapping[type[nodes.Node], str] = {nodes.Call: "calls are not available: use filters, such as `value|upper`"}


class TemplateFault(Exception):
    """A template that cannot be used, or not with these values. `line` is where, where that is known."""

    def __init__(self, what: str, line: int | None) -> None:
        super().__init__(what)
        self.line = line


class Template:
    """A template that was compiled. Raises TemplateFault."""

    def __init__(self, text: str) -> None:
        environment = _Environment()
        try:
            tree = environment.parse(text)
            _check(tree)
            _Bounded(environment).visit(tree)
            code = environment.compile(tree, filename=_FILE)
        except TemplateSyntaxError as error:
            raise TemplateFault(str(error.message), error.lineno) from None
        except RecursionError:
            raise TemplateFault("it is nested too deeply", None) from None
        self._compiled = Compiled.from_code(environment, code, environment.make_globals(None), None)

    def render(self, values: Mapping[str, Any]) -> str:
        """What the template makes of the values. Raises TemplateFault."""
        parts: list[str] = []
        length = 0
        try:
            for part in self._compiled.generate({**values, _STEPS: _Steps()}):
                length += len(part)
                _check_length(length)
                parts.append(part)
        except TemplateFault as error:
            raise TemplateFault(str(error), error.line or _line_of(error)) from None
        except (TemplateError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise TemplateFault(str(error) or type(error).__name__, _line_of(error)) from None
        return "".join(parts)


_FILE = "template of a webhook"


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, with bounded operators and a few filters."""

    intercepted_binops = frozenset({"+", "*", "%"})

    def __init__(self) -> None:
        super().__init__(undefined=StrictUndefined, autoescape=False, finalize=_printed, keep_trailing_newline=True)
        self.globals.clear()
        self.filters.clear()
        self.filters.update(_FILTERS)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            return _bounded_text(left + right)
        if not isinstance(left, int | float) or not isinstance(right, int | float):
            for each in (left, right):
                _known(each)
            raise TypeError(f"`{operator}` is for numbers here")
        result = super().call_binop(context, operator, left, right)
        if abs(result) > _LARGEST:
            raise ValueError(f"a number is larger than {_LARGEST:.0e}")
        return result


class _Steps:
    """What is left of the rounds of all loops."""

    def __init__(self) -> None:
        self.left = MOST_STEPS

    def count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise ValueError(f"its loops make more than {MOST_STEPS} rounds")


class _Bounded(NodeTransformer):
    """Has each loop count its rounds, and each `~` bound its text."""

    def __init__(self, environment: _Environment) -> None:
        self._environment = environment

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        node = self.generic_visit(node)
        if isinstance(node, nodes.For):
            node.iter = self._through("counted", node.iter)
        if isinstance(node, nodes.Concat):
            return self._through("concat", nodes.List(node.nodes, lineno=node.lineno, environment=self._environment))
        return node

    def _through(self, name: str, value: nodes.Node) -> nodes.Filter:
        return nodes.Filter(value, f" {name}", [], [], None, None, lineno=value.lineno, environment=self._environment)


def _check(tree: nodes.Template) -> None:
    for node in tree.find_all(nodes.Node):
        if not isinstance(node, _LANGUAGE):
            what = _REFUSED.get(
                type(node), f"`{type(node).__name__.lower()}` is not available in templates of webhooks"
            )
            raise TemplateFault(what, node.lineno)
        if isinstance(node, nodes.For) and node.recursive:
            raise TemplateFault("recursive loops are not available in templates of webhooks", node.lineno)


def _known(value: Any) -> Any:
    """The value. Raises UndefinedError for one that is not defined, which says its name."""
    if isinstance(value, Undefined):
        str(value)
    return value


def _printed(value: Any) -> Any:
    """What `{{ value }}` prints."""
    return value if isinstance(value, Undefined) else _text(value)


def _text(value: Any) -> str:
    if isinstance(_known(value), dict | list | tuple) or not isinstance(value, str | int | float | None):
        raise TypeError("a list or a mapping is printed with `|tojson` or `|join`")
    return _bounded_text(str(value))


def _bounded_text(text: str) -> str:
    _check_length(len(text))
    return text


def _check_length(length: int) -> None:
    if length > MOST_CHARACTERS:
        raise ValueError(f"it makes more than {MOST_CHARACTERS} characters")


@pass_context
def _counted(context: Context, values: Iterable[Any]) -> Iterator[Any]:
    steps = cast(_Steps, context.resolve(_STEPS))
    for value in values:
        steps.count()
        yield value


def _join(values: Iterable[Any], between: str = "") -> str:
    texts = [_text(value) for value in values]
    _check_length(sum(map(len, texts)) + len(_text(between)) * len(texts))
    return between.join(texts)


def _replace(value: Any, old: str, new: str) -> str:
    text = _text(value)
    _check_length(len(text) + text.count(_text(old)) * len(_text(new)))
    return text.replace(old, new)


def _round(value: float, digits: int = 0) -> float:
    return round(value, digits)


def _tojson(value: Any) -> str:
    _walk(value, _Steps())
    return _bounded_text(msgspec.json.encode(value).decode())


def _walk(value: Any, steps: _Steps) -> None:
    steps.count()
    if isinstance(_known(value), dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        for each in value:
            _walk(each, steps)


def _of_text(function: Callable[[str], str]) -> Callable[[Any], str]:
    return lambda value: function(_text(value))


_FILTERS: Mapping[str, Callable[..., Any]] = {
    **{name: FILTERS[name] for name in ("abs", "count", "d", "default", "first", "float", "int", "items", "last")},
    **{name: FILTERS[name] for name in ("length", "sort")},
    **{name: _of_text(FILTERS[name]) for name in ("capitalize", "lower", "title", "trim", "upper", "urlencode")},
    "e": _of_text(html.escape),
    "escape": _of_text(html.escape),
    "join": _join,
    "replace": _replace,
    "round": _round,
    "tojson": _tojson,
    " concat": _join,
    " counted": _counted,
}


def _line_of(error: BaseException) -> int | None:
    """The template's line at which an exception was raised."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _FILE:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
