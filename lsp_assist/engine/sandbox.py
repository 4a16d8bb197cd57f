"""Runs the Jinja template of a model file, which is a program written by a stranger.

It can reach nothing but what it is given, as Jinja's sandbox sees to, and it ends: the items of its
loops and its calls are counted, and its texts are bounded. What is left to it is to waste some
hundred milliseconds. Knows nothing of chats.
"""

import datetime as dt
import json
import re
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeVar, cast

from jinja2 import Template, nodes
from jinja2.exceptions import TemplateError, TemplateRuntimeError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

__all__ = ["SandboxedTemplate", "TemplateFailed"]

T = TypeVar("T")


class TemplateFailed(Exception):
    """The template cannot be compiled, raised an error, or did too much."""


class SandboxedTemplate:
    """A compiled template. Not for two threads at once.

    Raises: TemplateFailed
    """

    def __init__(self, source: str, *, now: dt.datetime) -> None:
        """`now` is what the template is told to be the time, whenever it asks."""
        if len(source) > _MAX_SOURCE_CHARS:
            raise TemplateFailed(f"it has more than {_MAX_SOURCE_CHARS:,} characters")
        self._environment = environment = _Environment(now)
        self._template = self._guarded(lambda: environment.bounded(source))

    def render(self, limit_chars: int, limit_steps: int, **variables: object) -> str:
        """The output, of at most so many characters; a step is a call or an item of a loop.

        Raises: TemplateFailed
        """
        return self._guarded(lambda: self._joined(limit_chars, limit_steps, variables))

    def _joined(self, limit_chars: int, limit_steps: int, variables: dict[str, object]) -> str:
        self._environment.start(limit_chars, limit_steps)
        parts: list[str] = []
        n_left = limit_chars
        for part in self._template.generate(variables):
            n_left -= len(part)
            if n_left < 0:
                _too_much(f"its output exceeds {limit_chars:,} characters")
            parts.append(part)
        return "".join(parts)

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except TemplateError as error:
            raise TemplateFailed(str(error)) from error
        except (ArithmeticError, LookupError, MemoryError, RecursionError) as error:
            raise TemplateFailed(f"{type(error).__name__}: {error}") from error
        except (AssertionError, AttributeError, SyntaxError, TypeError, ValueError) as error:
            raise TemplateFailed(f"{type(error).__name__}: {error}") from error


_MAX_SOURCE_CHARS = 1_000_000
_MAX_NUMBER = 1_000_000
# Of a format: a width of four digits or more, or one that is itself given as an argument.
_WIDE = re.compile(r"[0-9]{4}|\*|\{[^}]*\{")
_BOUND_STEPS = "bound_steps"
_BOUND_TEXT = "bound_text"


def _too_much(what: str) -> NoReturn:
    raise TemplateRuntimeError(what)


class _Environment(ImmutableSandboxedEnvironment):
    """The environment that chat templates are written for, with bounds.

    Source: options, globals and `tojson` as in transformers/utils/chat_template_utils.py.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, now: dt.datetime) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _GenerationTag],
        )
        self._n_steps_left = 0
        self._limit_chars = 0
        self.filters["tojson"] = _json_of
        for name in ("center", "format", "indent", "random", "wordwrap"):
            del self.filters[name]  # they make long texts of short ones, and no template uses them
        self.filters[_BOUND_STEPS] = self._bound_steps
        self.filters[_BOUND_TEXT] = self._bound
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = now.strftime

    def bounded(self, source: str) -> Template:
        """The template, with its loops and joined texts counted."""
        tree = _Bounds().visit(self.parse(source))
        code = self.compile(tree)
        return Template.from_code(self, code, self.make_globals(None))

    def start(self, limit_chars: int, limit_steps: int) -> None:
        self._n_steps_left = limit_steps
        self._limit_chars = limit_chars

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        self._spend()
        for arg in (*args, *kwargs.values()):
            self._bound(arg)
        return self._bound(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            sizes = [value if isinstance(value, int) else _size(value) for value in (left, right)]
            self._bound(abs(sizes[0] * sizes[1]))
        elif operator == "**":
            _too_much("it computes powers")
        elif operator == "%" and isinstance(left, str) and _WIDE.search(left):
            _too_much("it formats a text too wide")
        return self._bound(super().call_binop(context, operator, left, right))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is not None and _WIDE.search(value.__self__):
            _too_much("it formats a text too wide")
        return wrapped

    def _bound_steps(self, items: Iterable[object]) -> list[object]:
        taken: list[object] = []
        for item in items:
            self._spend()
            taken.append(item)
        return taken

    def _spend(self) -> None:
        self._n_steps_left -= 1
        if self._n_steps_left < 0:
            _too_much("it takes too many steps")

    def _bound(self, value: T) -> T:
        """The value itself, if it is not too large."""
        if isinstance(value, int) and abs(value) > max(_MAX_NUMBER, self._limit_chars):
            _too_much("it uses a number that is too large")
        if _size(value) > self._limit_chars:
            _too_much(f"it makes a text of more than {self._limit_chars:,} characters")
        return value


def _size(value: object) -> int:
    return len(value) if isinstance(value, (str, list, tuple, dict)) else 0


class _Bounds(NodeTransformer):
    """Puts a filter around what a loop goes over, and around joined texts."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802 - named as Jinja looks it up
        if node.recursive:
            raise TemplateRuntimeError("it has a recursive loop")
        self.generic_visit(node)
        node.iter = _filtered(node.iter, _BOUND_STEPS)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:  # noqa: N802 - as above
        self.generic_visit(node)
        return _filtered(node, _BOUND_TEXT)


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(cast(nodes.Expr, node), name, [], [], None, None, lineno=node.lineno)


class _GenerationTag(Extension):
    """`{% generation %}` marks what to train on; in a prompt it means nothing."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: object) -> NoReturn:
    raise TemplateRuntimeError(str(message))


def _json_of(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=None if indent is None else min(indent, 8),
        separators=separators,
        sort_keys=sort_keys,
    )
