"""Reading JSON Schemas: types, references, counts, and what two schemas have in common.

What is malformed or not supported is refused with its place. Pure: knows no grammar.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from lsp_assist.errors import BadInput

__all__ = [
    "KEYWORDS",
    "NOTES",
    "Schema",
    "alternatives",
    "are_apart",
    "count",
    "implied_type",
    "integer_bound",
    "is_of",
    "of_type",
    "only",
    "refuse",
    "resolve",
]

Schema = Mapping[str, Any]

KEYWORDS: Mapping[str, tuple[str, ...]] = {
    "object": ("properties", "required", "additionalProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "integer": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    "number": ("minimum",),
    "boolean": (),
    "null": (),
}
"""What is supported for each type."""

NOTES = frozenset(
    "title description default examples $schema $id $comment $anchor $defs definitions deprecated "
    "readOnly writeOnly discriminator".split()
)
"""Keywords that bound no value."""


def refuse(place: str, what: str) -> NoReturn:
    """Says what cannot be used, and where.

    Raises: BadInput
    """
    raise BadInput(f"The schema at {place!r} {what}; change it.", field="grammar")


def only(keys: Iterable[str], allowed: Iterable[str], place: str, where: str) -> None:
    """Passes keywords that are all allowed.

    Raises: BadInput naming another one
    """
    for key in sorted(set(keys) - set(allowed)):
        refuse(f"{place}/{key}", f"is a keyword that is not supported {where}")


def implied_type(keys: set[str]) -> str | None:
    """The type that is meant where none is said."""
    return next((kind for kind, known in KEYWORDS.items() if keys & set(known)), None)


def of_type(schema: Schema, kind: object) -> Schema:
    """The schema for one of its types, without the keywords of the others."""
    mine = KEYWORDS.get(kind, ()) if isinstance(kind, str) else ()
    others = {key for keys in KEYWORDS.values() for key in keys} - set(mine)
    return {**{key: value for key, value in schema.items() if key not in others}, "type": kind}


def alternatives(schema: Schema, key: str, place: str) -> list[object]:
    """The list under a keyword, which is not empty."""
    found = schema[key]
    if not isinstance(found, list) or not found:
        refuse(f"{place}/{key}", "is no list of alternatives")
    return found


def count(schema: Schema, key: str, place: str) -> int | None:
    """The count under a keyword; None where there is none."""
    found = integer_bound(schema, key, place)
    if found is not None and found < 0:
        refuse(f"{place}/{key}", f"is {found!r}, which is no count")
    return found


def integer_bound(schema: Schema, key: str, place: str) -> int | None:
    """The integer under a keyword; None where there is none."""
    if key not in schema:
        return None
    if not is_of(schema[key], "integer"):
        refuse(f"{place}/{key}", f"is {schema[key]!r}, which is no integer")
    return int(schema[key])


def is_of(value: object, kind: object) -> bool:
    """Whether a value is of a type."""
    match value:
        case bool():
            return kind == "boolean"
        case None:
            return kind == "null"
        case str():
            return kind == "string"
        case list():
            return kind == "array"
        case Mapping():
            return kind == "object"
        case int():
            return kind in ("integer", "number")
        case float():
            return kind == "number" or (kind == "integer" and value.is_integer())
        case _:
            return False


def resolve(document: Schema, ref: object, place: str) -> object:
    """What a `$ref` refers to, by a JSON pointer within the document."""
    if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
        refuse(f"{place}/$ref", f"is {ref!r}, and only places in the schema can be named")
    target: object = document
    for part in ref.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(target, list) and key.isdecimal() and int(key) < len(target):
            target = target[int(key)]
        elif isinstance(target, Mapping) and key in target:
            target = target[key]
        else:
            refuse(f"{place}/$ref", f"is {ref!r}, which is not there")
    return target


def are_apart(document: Schema, options: Sequence[object]) -> bool:
    """Whether no value fits two of the schemas, as far as can be seen from outside.

    They are of other types, list other values, or require a property with other values.
    """
    seen = [_unreferred(document, option) for option in options]
    return not any(
        _types(a) & _types(b) and not _have_other_tags(a, b)
        for n, a in enumerate(seen)
        for b in seen[n + 1 :]
    )


def _unreferred(document: Schema, option: object) -> Schema:
    for _ in range(20):
        if not isinstance(option, Mapping) or "$ref" not in option:
            break
        option = resolve(document, option["$ref"], "#")
    return option if isinstance(option, Mapping) else {}


def _types(schema: Schema) -> set[str]:
    """The types that a schema allows; integers are numbers."""
    every = set(KEYWORDS) - {"integer"}
    if values := _listed(schema):
        return {kind for kind in every if any(is_of(value, kind) for value in values)}
    kinds = schema.get("type", implied_type(set(schema)))
    kinds = {kinds} if isinstance(kinds, str) else set(kinds or every)
    return {"number" if kind == "integer" else kind for kind in kinds}


def _have_other_tags(a: Schema, b: Schema) -> bool:
    if _differ(a, b):
        return True
    shared = set(a.get("required", ())) & set(b.get("required", ()))
    return any(
        _differ(a.get("properties", {}).get(name, {}), b.get("properties", {}).get(name, {}))
        for name in shared
    )


def _differ(a: Schema, b: Schema) -> bool:
    values = [{json.dumps(v, sort_keys=True) for v in _listed(schema)} for schema in (a, b)]
    return bool(values[0] and values[1] and not values[0] & values[1])


def _listed(schema: object) -> list[object]:
    """The values that a schema lists; none where it lists none."""
    if not isinstance(schema, Mapping):
        return []
    return [schema["const"]] if "const" in schema else list(schema.get("enum", ()))
