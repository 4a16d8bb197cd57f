"""JSON Schema as GBNF: the grammar of documents that fit a schema.

What comes out fits the schema. Not all that fits can come out: properties come in the order of the
schema, and those that it does not name only where `additionalProperties` says so. A keyword that
cannot be kept is refused by name, never left out in silence. Pure: knows no model.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence

from lsp_assist.engine.gbnf import check, quoted
from lsp_assist.engine.json_schema import (
    KEYWORDS,
    NOTES,
    Schema,
    alternatives,
    are_apart,
    count,
    implied_type,
    integer_bound,
    is_of,
    of_type,
    only,
    refuse,
    resolve,
)
from lsp_assist.engine.numerals import integer_grammar
from lsp_assist.engine.pattern import ANY_CHAR, pattern_grammar
from lsp_assist.errors import BadInput

__all__ = ["JSON_GRAMMAR", "grammar_of_schema"]


def grammar_of_schema(schema: Schema) -> str:
    """A GBNF grammar for documents that fit the schema.

    Raises: BadInput naming the keyword and its place
    """
    writer = _Writer(schema)
    try:
        root = writer.value(schema, "#")
    except RecursionError:
        refuse("#", "is nested too deeply")
    writer.rules["root"] = f"ws {root} ws"
    text = "".join(f"{name} ::= {rule}\n" for name, rule in writer.rules.items())
    try:
        check(text)
    except BadInput as error:
        raise BadInput(f"The schema makes no usable grammar: {error}", field="grammar") from None
    return text


# Blanks a model may write, too few to fill a reply with.
_WS = r'(" " | "\n" [ \t]{0,20})?'

_SHARED = {
    "ws": _WS,
    "char": ANY_CHAR,
    "string": r'"\"" char* "\""',
    "integer": '"-"? ("0" | [1-9] [0-9]{0,15})',
    "number": 'integer ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?',
    "magnitude": '("0" | [1-9] [0-9]{0,15}) ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "array": '"[" ws (value (ws "," ws value)*)? ws "]"',
    "object": '"{" ws (member (ws "," ws member)*)? ws "}"',
    "member": 'string ws ":" ws value',
    "value": "object | array | string | number | boolean | null",
}

JSON_GRAMMAR = "root ::= ws object ws\n" + "".join(f"{k} ::= {v}\n" for k, v in _SHARED.items())
"""Any JSON object, as OpenAI's `json_object` asks for."""

_CHUNK = 500
_MAX_CHARS = 100_000
_HEX = "[0-9a-fA-F]"
_DATE = '[0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | "1" [0-9] | "2" [0-8])'
_TIME = (
    '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,9})? '
    '("Z" | [-+] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])'
)
_FORMATS = {
    "date": _DATE,  # no day after the 28th: every month has those
    "time": _TIME,
    "date-time": f'{_DATE} "T" {_TIME}',
    "uuid": f'{_HEX}{{8}} ("-" {_HEX}{{4}}){{3}} "-" {_HEX}{{12}}',
}


class _Writer:
    """Collects rules while it walks a schema; expressions refer to them by name."""

    def __init__(self, document: Schema) -> None:
        self._document = document
        self._refs: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self.rules = {"root": "", **_SHARED}

    def value(self, schema: object, place: str) -> str:
        """An expression for the values that fit."""
        if schema is True:
            return "value"
        if not isinstance(schema, Mapping):
            refuse(place, "is `false`, which nothing fits" if schema is False else "is no schema")
        keys = {key for key in schema if key not in NOTES}
        if not keys:
            return "value"
        for combiner, write in self._combiners.items():
            if combiner in keys:
                only(keys, {combiner, "type"} if combiner in ("const", "enum") else {combiner},
                      place, f"beside {combiner!r}")  # fmt: skip
                return write(self, schema, place)
        kinds = schema.get("type", implied_type(keys))
        if isinstance(kinds, list):
            return self._choice(
                [self.value(of_type(schema, kind), f"{place}/type") for kind in kinds], place
            )
        if not isinstance(kinds, str) or kinds not in KEYWORDS:
            refuse(f"{place}/type", f"is {kinds!r}, which is no type of JSON")
        only(keys, {"type", *KEYWORDS[kinds]}, place, f"for type {kinds!r}")
        return self._types[kinds](self, schema, place)

    # ---- combining

    def _any_of(self, schema: Schema, place: str) -> str:
        key = "anyOf" if "anyOf" in schema else "oneOf"
        options = alternatives(schema, key, place)
        if key == "oneOf" and not are_apart(self._document, options):
            refuse(f"{place}/oneOf", "has alternatives that may overlap; say `anyOf`")
        return self._choice(
            [self.value(option, f"{place}/{key}/{n}") for n, option in enumerate(options)], place
        )

    def _all_of(self, schema: Schema, place: str) -> str:
        parts = alternatives(schema, "allOf", place)
        if len(parts) != 1:
            refuse(f"{place}/allOf", "joins several schemas, which is not supported")
        return self.value(parts[0], f"{place}/allOf/0")

    def _ref(self, schema: Schema, place: str) -> str:
        ref = schema["$ref"]
        target = resolve(self._document, ref, place)
        if ref not in self._refs:
            name = self._refs[ref] = f"ref-{len(self._refs) + 1}"
            self.rules[name] = ""  # known before its inside: a schema may refer to itself
            self.rules[name] = self.value(target, str(ref))
        return self._refs[ref]

    def _const(self, schema: Schema, place: str) -> str:
        values = [schema["const"]] if "const" in schema else alternatives(schema, "enum", place)
        if "const" in schema and "enum" in schema:
            refuse(f"{place}/enum", "stands beside 'const', which is not supported")
        kinds = schema.get("type")
        kinds = [kinds] if isinstance(kinds, str) else kinds
        fitting = [v for v in values if kinds is None or any(is_of(v, kind) for kind in kinds)]
        return self._choice([self._literal(value) for value in fitting], place)

    def _literal(self, value: object) -> str:
        """One value, with blanks where JSON has them."""
        if isinstance(value, Mapping):
            pairs = [f'{quoted(_json(k))} ws ":" ws {self._literal(v)}' for k, v in value.items()]
            return f'("{{" ws {_joined(pairs)} "}}")' if pairs else '("{" ws "}")'
        if isinstance(value, list):
            items = [self._literal(item) for item in value]
            return f'("[" ws {_joined(items)} "]")' if items else '("[" ws "]")'
        return quoted(_json(value))

    def _choice(self, options: Sequence[str], place: str) -> str:
        if not options:
            refuse(place, "is one that nothing fits")
        unique = list(dict.fromkeys(options))
        return unique[0] if len(unique) == 1 else f"({' | '.join(unique)})"

    # ---- types

    def _object(self, schema: Schema, place: str) -> str:
        properties = schema.get("properties", {})
        if not isinstance(properties, Mapping):
            refuse(f"{place}/properties", "is no object")
        required = schema.get("required", [])
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            refuse(f"{place}/required", "is no list of names")
        missing = [name for name in required if name not in properties]
        rest = schema.get("additionalProperties", not properties)
        if missing and rest is False:
            refuse(f"{place}/required", f"names {missing[0]!r}, which is in no property")
        properties = {**properties, **dict.fromkeys(missing, rest)}
        members = [
            (f"{quoted(_json(name))} ws \":\" ws {self.value(inner, f'{place}/properties/{name}')}",
             name in required)
            for name, inner in properties.items()
        ]  # fmt: skip
        if rest is False:
            return self._members(members, "")
        key = self._other_key(list(properties)) if properties else "string"
        other = f'{key} ws ":" ws {self.value(rest, f"{place}/additionalProperties")}'
        return self._members(members, self._rule("other", other))

    def _members(self, members: Sequence[tuple[str, bool]], other: str) -> str:
        """An object with these members, of which some may be left out, and others after them.

        Two rules for what may follow a member: as the first to be written, and after a comma.
        """
        first = f'({other} (ws "," ws {other})* ws)?' if other else ""
        later = f'(ws "," ws {other})* ws' if other else "ws"
        for member, is_required in reversed(members):
            later_name = self._rule("rest", later)
            began = f"{member} {later_name}"
            if is_required:
                first, later = began, f'ws "," ws {began}'
            else:
                first = f"{began} | {self._rule('rest', first)}" if first else f"({began})?"
                later = f'ws "," ws {began} | {later_name}'
        return self._rule("object", f'"{{" ws ({first}) "}}"' if first else '"{" ws "}"')

    def _other_key(self, names: Sequence[str]) -> str:
        """A string that is none of these: at each character, it leaves them or goes on."""
        inner = self._unlike([_json(name)[1:-1] for name in names])
        return self._rule("key", f'"\\"" {inner} "\\""')

    def _unlike(self, names: Sequence[str]) -> str:
        # Escapes are left to the named properties: the same name could be spelled in two ways.
        following: dict[str, list[str]] = {}
        for name in names:
            if name:
                following.setdefault(name[0], []).append(name[1:])
        plain = '[^"\\\\\\x00-\\x1F'
        escaped = "".join(f"\\U{ord(c):08X}" for c in following)
        options = [f"{plain}{escaped}] {self._rule('plain', plain + ']')}*"]
        for char, rests in following.items():
            if char != "\\":
                options.append(f"{quoted(char)} {self._rule('key', self._unlike(rests))}")
        return f"({' | '.join(options)})" + ("" if "" in names else "?")

    def _array(self, schema: Schema, place: str) -> str:
        first = schema.get("prefixItems", [])
        if not isinstance(first, list):
            refuse(f"{place}/prefixItems", "is no list of schemas")
        low = count(schema, "minItems", place) or 0
        high = count(schema, "maxItems", place)
        if schema.get("uniqueItems"):
            refuse(f"{place}/uniqueItems", "is not supported")
        rest = schema.get("items", not first)
        if rest is False:
            high = len(first) if high is None else min(high, len(first))
        if high is not None and high < low:
            refuse(place, "has more items at least than at most")
        fixed = [self.value(s, f"{place}/prefixItems/{n}") for n, s in enumerate(first)]
        item = self.value(rest, f"{place}/items") if rest is not False else ""
        more = self._repeated(
            f'ws "," ws {item}',
            max(low - max(len(fixed), 1), 0),
            None if high is None else max(high - max(len(fixed), 1), 0),
            f"{place}/items",
        )
        if not fixed:
            if high == 0:
                return '("[" ws "]")'
            inner = f"{item} {more}"
            return f'("[" ws ({inner} ws)? "]")' if not low else f'("[" ws {inner} ws "]")'
        tail = more if rest is not False and (high is None or high > len(fixed)) else ""
        for n in range(len(fixed) - 1, -1, -1):
            if high is not None and n >= high:
                continue
            began = (f"{fixed[n]} {tail}" if n == 0 else f'ws "," ws {fixed[n]} {tail}').strip()
            tail = f"({began})?" if n >= low else began
        return f'("[" ws {tail} ws "]")'

    def _string(self, schema: Schema, place: str) -> str:
        low = count(schema, "minLength", place) or 0
        high = count(schema, "maxLength", place)
        given = [key for key in ("pattern", "format") if key in schema]
        has_length = "minLength" in schema or "maxLength" in schema
        if len(given) + has_length > 1:
            refuse(place, f"has {given[0]!r} and another bound, which is not supported together")
        if "pattern" in schema:
            return self._rule("text", f'"\\"" {pattern_grammar(str(schema["pattern"]))} "\\""')
        if "format" in schema:
            if schema["format"] not in _FORMATS:
                refuse(f"{place}/format", f"is {schema['format']!r}, which is not supported")
            return self._rule("text", f'"\\"" {_FORMATS[schema["format"]]} "\\""')
        if not has_length:
            return "string"
        if high is not None and high < low:
            refuse(place, "has more characters at least than at most")
        return self._rule("text", f'"\\"" {self._repeated("char", low, high, place)} "\\""')

    def _integer(self, schema: Schema, place: str) -> str:
        low, high = integer_bound(schema, "minimum", place), integer_bound(schema, "maximum", place)
        above = integer_bound(schema, "exclusiveMinimum", place)
        below = integer_bound(schema, "exclusiveMaximum", place)
        lows = [x for x in (low, None if above is None else above + 1) if x is not None]
        highs = [x for x in (high, None if below is None else below - 1) if x is not None]
        if not lows and not highs:
            return "integer"
        least, most = max(lows, default=None), min(highs, default=None)
        if least is not None and most is not None and most < least:
            refuse(place, "is one that nothing fits")
        return self._rule("int", integer_grammar(least, most))

    def _number(self, schema: Schema, place: str) -> str:
        if "minimum" not in schema:
            return "number"
        if schema["minimum"] != 0:
            refuse(f"{place}/minimum", "is not 0, which alone is supported for numbers")
        return "magnitude"

    def _boolean(self, _schema: Schema, _place: str) -> str:
        return "boolean"

    def _null(self, _schema: Schema, _place: str) -> str:
        return "null"

    # ---- rules

    def _rule(self, kind: str, rule: str) -> str:
        """The name of a rule that says this."""
        if rule not in self._names:
            name = self._names[rule] = f"{kind}-{len(self.rules)}"
            self.rules[name] = rule
        return self._names[rule]

    def _repeated(self, item: str, low: int, high: int | None, place: str) -> str:
        """The item so many times; long stretches in chunks, since llama.cpp bounds its counts."""
        if max(low, high or 0) > _MAX_CHARS:
            refuse(place, f"has more than {_MAX_CHARS:,} repetitions")
        if high == 0:
            return '""'
        unit = self._rule("item", item)
        parts = [f"{unit}{{{low % _CHUNK}}}"] if low % _CHUNK else []
        if low >= _CHUNK:
            chunk = self._rule("chunk", f"{unit}{{{_CHUNK}}}")
            parts.append(f"{chunk}{{{low // _CHUNK}}}")
        if high is None:
            parts.append(f"{unit}*")
        elif high > low:
            parts.append(self._up_to(unit, high - low))
        return " ".join(parts) or '""'

    def _up_to(self, unit: str, high: int) -> str:
        n_rest, more = high % _CHUNK, ""
        if n_rest or high < _CHUNK:
            more = f"{unit}{{0,{n_rest}}}"
        for _ in range(high // _CHUNK):
            chunk = self._rule("chunk", f"{unit}{{{_CHUNK}}}")
            fewer = f"{unit}{{0,{_CHUNK - 1}}}"
            more = self._rule("upto", f"{fewer} | {chunk} {more}".strip())
        return more

    _combiners: Mapping[str, Callable[["_Writer", Schema, str], str]] = {
        "$ref": _ref,
        "const": _const,
        "enum": _const,
        "anyOf": _any_of,
        "oneOf": _any_of,
        "allOf": _all_of,
    }
    _types: Mapping[str, Callable[["_Writer", Schema, str], str]] = {
        "object": _object,
        "array": _array,
        "string": _string,
        "integer": _integer,
        "number": _number,
        "boolean": _boolean,
        "null": _null,
    }


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _joined(parts: Iterable[str]) -> str:
    return ' ws "," ws '.join(parts) + " ws"
