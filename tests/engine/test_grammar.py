import json
import math
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lsp_assist.engine.gbnf import check
from lsp_assist.engine.grammar import JSON_GRAMMAR, grammar_of_schema
from lsp_assist.engine.llama import Context, Weights
from lsp_assist.engine.numerals import integer_grammar
from lsp_assist.engine.pattern import pattern_grammar
from lsp_assist.engine.sampling import Sampler
from lsp_assist.errors import BadInput
from lsp_assist.llm import Sampling
from tests.engine.matching import fits

TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["name"],
            "additionalProperties": False,
        }
    },
}


def fits_schema(document: object, schema: Mapping[str, Any]) -> bool:
    return fits(json.dumps(document, ensure_ascii=False), grammar_of_schema(schema))


def is_valid(document: Any, schema: Any) -> bool:
    """JSON Schema's own meaning, for the schemas that are made here."""
    if schema is True or schema == {}:
        return True
    if "enum" in schema:
        return json.dumps(document) in map(json.dumps, schema["enum"])
    if "anyOf" in schema:
        return any(is_valid(document, option) for option in schema["anyOf"])
    match schema["type"]:
        case "integer":
            return (
                type(document) is int
                and schema.get("minimum", -math.inf) <= document
                and document <= schema.get("maximum", math.inf)
            )
        case "string":
            return (
                isinstance(document, str)
                and schema.get("minLength", 0) <= len(document)
                and len(document) <= schema.get("maxLength", math.inf)
            )
        case "array":
            return (
                isinstance(document, list)
                and schema.get("minItems", 0) <= len(document)
                and len(document) <= schema.get("maxItems", math.inf)
                and all(is_valid(item, schema["items"]) for item in document)
            )
        case "object":
            rest = schema["additionalProperties"]
            return (
                isinstance(document, dict)
                and set(schema["required"]) <= set(document)
                and all(
                    is_valid(value, schema["properties"].get(key, True))
                    and (key in schema["properties"] or rest is not False)
                    and (key in schema["properties"] or is_valid(value, rest))
                    for key, value in document.items()
                )
            )
        case "boolean":
            return type(document) is bool
        case kind:
            assert kind == "null"
            return document is None


def is_in_order(document: Any, schema: Any) -> bool:
    """Whether properties come in the order of the schema, the others last, at every level."""
    if not isinstance(schema, Mapping):
        return True
    if "anyOf" in schema:
        return any(
            is_valid(document, option) and is_in_order(document, option)
            for option in schema["anyOf"]
        )
    if isinstance(document, list):
        return all(is_in_order(item, schema.get("items", True)) for item in document)
    if not isinstance(document, dict) or "properties" not in schema:
        return True
    names = list(schema["properties"])
    places = [names.index(key) if key in names else len(names) for key in document]
    return places == sorted(places) and all(
        is_in_order(value, schema["properties"].get(key, schema["additionalProperties"]))
        for key, value in document.items()
    )


NAMES = st.sampled_from(["a", "ab", "abc", "b", "", "ü", 'q"'])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-12, 120), st.text('aü"\\\n', max_size=3))
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=5,
)


@st.composite
def bounds(draw: st.DrawFn, low_key: str, high_key: str, least: int) -> dict[str, int]:
    low = draw(st.none() | st.integers(least, 5))
    high = draw(st.none() | st.integers(least if low is None else low, 8))
    return {key: n for key, n in ((low_key, low), (high_key, high)) if n is not None}


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> dict[str, Any]:
    properties = draw(st.dictionaries(NAMES, inner, max_size=3))
    required = (
        draw(st.lists(st.sampled_from(sorted(properties)), unique=True)) if properties else []
    )
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": draw(st.booleans() | inner),
    }


SCHEMAS = st.recursive(
    st.one_of(
        st.sampled_from([{"type": "boolean"}, {"type": "null"}]),
        st.just({}),
        bounds("minimum", "maximum", -20).map(lambda b: {"type": "integer", **b}),
        bounds("minLength", "maxLength", 0).map(lambda b: {"type": "string", **b}),
        st.lists(DOCUMENTS, min_size=1, max_size=3).map(lambda values: {"enum": values}),
    ),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=2).map(lambda options: {"anyOf": options}),
        st.tuples(inner, bounds("minItems", "maxItems", 0)).map(
            lambda it: {"type": "array", "items": it[0], **it[1]}
        ),
        objects(inner),
    ),
    max_leaves=4,
)


def documents_of(schema: Any) -> st.SearchStrategy[Any]:
    """Documents that fit, mostly."""
    if schema is True or schema == {}:
        return DOCUMENTS
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of([documents_of(option) for option in schema["anyOf"]])
    match schema["type"]:
        case "integer":
            return st.integers(schema.get("minimum", -500), schema.get("maximum", 500))
        case "string":
            return st.text(
                min_size=schema.get("minLength", 0), max_size=schema.get("maxLength", 12)
            )
        case "array":
            return st.lists(
                documents_of(schema["items"]),
                min_size=schema.get("minItems", 0),
                max_size=schema.get("maxItems", 6),
            )
        case "object":
            named = st.fixed_dictionaries(
                {k: documents_of(v) for k, v in schema["properties"].items()
                 if k in schema["required"]},
                optional={k: documents_of(v) for k, v in schema["properties"].items()
                          if k not in schema["required"]},
            )  # fmt: skip
            rest = schema["additionalProperties"]
            others = (
                st.just({})
                if rest is False
                else st.dictionaries(st.sampled_from(["zz", "abcd"]), documents_of(rest))
            )
            return st.tuples(named, others).map(lambda two: {**two[1], **two[0]})
        case "boolean":
            return st.booleans()
        case _:
            return st.none()


def ordered(document: Any, schema: Any) -> Any:
    """The same document, its properties in the order of the schema."""
    if not isinstance(document, dict) or "properties" not in schema:
        if isinstance(document, list) and "items" in schema:
            return [ordered(item, schema["items"]) for item in document]
        return document
    names = [*schema["properties"], *document]
    rest = schema["additionalProperties"]
    return {
        name: ordered(document[name], inner if isinstance(inner, Mapping) else {})
        for name in dict.fromkeys(names)
        if name in document
        for inner in [schema["properties"].get(name, rest)]
    }


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_documents_that_fit_the_schema_fit_the_grammar(data: st.DataObject) -> None:
    schema = data.draw(SCHEMAS)
    document = ordered(data.draw(documents_of(schema)), schema)
    assume(is_valid(document, schema) and is_in_order(document, schema))
    assert fits_schema(document, schema)
    grammar = grammar_of_schema(schema)
    assert fits(json.dumps(document, ensure_ascii=False, indent=2), grammar)
    assert fits(json.dumps(document, ensure_ascii=False, separators=(",", ":")), grammar)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(SCHEMAS, DOCUMENTS)
def test_what_fits_the_grammar_fits_the_schema(schema: Any, document: Any) -> None:
    expected = is_valid(document, schema) and is_in_order(document, schema)
    assert fits_schema(document, schema) == expected


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (TREE, [{"name": "a", "children": [{"name": "b", "children": []}]}], [{"children": []}]),
        ({"type": "number"}, [1, -2.5, 1e20, 0.001], ["1", None]),
        ({"type": "number", "minimum": 0}, [0, 2.5], [-1, -0.5]),
        ({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 100}, [1, 99], [0, 100]),
        ({"type": ["string", "null"], "maxLength": 2}, ["ab", None], ["abc", 1]),
        ({"const": {"a": [1, None]}}, [{"a": [1, None]}], [{"a": [1]}, {}]),
        ({"type": "integer", "enum": [1, "x"]}, [1], ["x"]),
        ({"prefixItems": [{"type": "integer"}, {"type": "null"}], "items": False, "minItems": 1},
         [[1], [1, None]], [[], [None], [1, None, 2]]),
        ({"prefixItems": [{"type": "integer"}], "items": {"type": "string"}, "maxItems": 2},
         [[], [1], [1, "a"]], [["a"], [1, 1], [1, "a", "b"]]),
        ({"type": "string", "format": "date"}, ["2024-02-28"], ["2024-13-01", "today"]),
        ({"type": "string", "format": "uuid"}, ["0b7e2a34-90b1-4c7e-8f0a-3f4cbb1b2a10"], ["0b7e"]),
        ({"type": "string", "minLength": 1200, "maxLength": 1700},
         ["a" * 1200, "ü" * 1700, "\n" * 1500], ["a" * 1199, "a" * 1701]),
        ({"type": "object", "additionalProperties": {"type": "null"}}, [{"a": None}], [{"a": 1}]),
        ({"oneOf": [{"type": "integer"}, {"type": "string"}]}, [1, "a"], [None]),
        ({"oneOf": [{"type": "object", "properties": {"kind": {"const": "a"}, "x": {}},
                     "required": ["kind"]},
                    {"type": "object", "properties": {"kind": {"const": "b"}},
                     "required": ["kind"]}]},
         [{"kind": "a", "x": None}, {"kind": "b"}], [{"kind": "c"}, {"kind": "b", "x": None}]),
        ({"allOf": [{"$ref": "#/$defs/n"}], "$defs": {"n": {"type": "null"}}}, [None], [1]),
    ],
)  # fmt: skip
def test_examples(schema: Mapping[str, Any], good: list[Any], bad: list[Any]) -> None:
    assert [fits_schema(document, schema) for document in good] == [True] * len(good)
    assert [fits_schema(document, schema) for document in bad] == [False] * len(bad)


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        ({"type": "string", "contentEncoding": "base64"}, "'#/contentEncoding'"),
        ({"type": "object", "patternProperties": {}}, "patternProperties"),
        ({"type": "object", "properties": {"a": {"not": {}}}}, "'#/properties/a/not'|is None"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "number", "multipleOf": 3}, "multipleOf"),
        ({"type": "number", "minimum": 3}, "minimum"),
        ({"type": "string", "format": "email"}, "'email'"),
        ({"type": "string", "pattern": "(?=a)"}, r"\(\?="),
        ({"type": "string", "pattern": r"(a)\1"}, r"has '\\1'"),
        ({"type": "string", "pattern": "a", "maxLength": 3}, "not supported together"),
        ({"allOf": [{}, {}]}, "allOf"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "may overlap"),
        ({"anyOf": [{}], "properties": {}}, "beside 'anyOf'"),
        ({"$ref": "other.json"}, "only places in the schema"),
        ({"$ref": "#/$defs/none"}, "not there"),
        ({"$ref": "#"}, "begins with itself"),
        ({"type": "strnig"}, "'strnig'"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "nothing fits"),
        ({"type": "integer", "minimum": 10**30}, "18 digits"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "at least than at most"),
        ({"type": "string", "maxLength": 10**9}, "100,000"),
        ({"type": "array", "minItems": -1}, "no count"),
        ({"properties": {"a": False}}, "nothing fits"),
        ({"properties": {"a": {}}, "required": ["a", "b"]}, "names 'b'"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(schema: Any, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint) as refused:
        grammar_of_schema(schema)
    assert refused.value.field == "grammar"


def test_notes_change_nothing() -> None:
    schema = {"type": "string"}
    noted = {"$schema": "x", "title": "T", "description": "d", "default": "", **schema}
    assert grammar_of_schema(noted) == grammar_of_schema(schema)


@given(st.none() | st.integers(-1200, 1200), st.none() | st.integers(-1200, 1200), st.data())
def test_integers_between_two_bounds(
    low: int | None, high: int | None, data: st.DataObject
) -> None:
    assume(low is None or high is None or low <= high)
    grammar = f"root ::= {integer_grammar(low, high)}"
    check(grammar)
    near = [bound + step for bound in (low, high) if bound is not None for step in (-1, 0, 1)]
    number = data.draw(st.integers(-1300, 1300) | st.sampled_from(near or [0]))
    is_within = (low is None or low <= number) and (high is None or number <= high)
    assert fits(str(number), grammar) == is_within


@settings(deadline=None)
@given(
    st.sampled_from(
        ["^a*b$", "a|^b", "^(x|yz)+$", r"^\d{2,3}-\w$", "[^a-y]", r"^[\s\"]$", r"\\", "^.$", "",
         r"^\u00e9\x41?$", "^a+?(?:b|)$", r"^[^\D5-]$", r"^[a\-z]$"]
    ),
    st.text("abxyz15-_ \"\\\n\té", max_size=5),
)  # fmt: skip
def test_a_pattern_means_what_the_regular_expression_means(pattern: str, text: str) -> None:
    grammar = f'root ::= "\\"" {pattern_grammar(pattern)} "\\""'
    check(grammar)
    expected = bool(re.search(pattern.replace("$", r"\Z"), text, re.ASCII))
    assert fits(json.dumps(text, ensure_ascii=False), grammar) == expected


@given(st.dictionaries(st.text(), DOCUMENTS))
def test_any_object_is_json(document: Any) -> None:
    check(JSON_GRAMMAR)
    assert fits(json.dumps(document, ensure_ascii=False), JSON_GRAMMAR)
    assert not fits(json.dumps([document]), JSON_GRAMMAR)


def test_a_model_writes_documents_of_the_schema(weights: Weights) -> None:
    """llama.cpp understands the grammars as they are meant; a random model obeys them."""
    schema = {
        "type": "object",
        "properties": {
            "kind": {"enum": ["call", "größe"]},
            "n": {"type": "integer", "minimum": -5, "maximum": 130},
            "names": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 2},
            "maybe": {"type": ["boolean", "null"]},
        },
        "required": ["kind", "n", "names"],
        "additionalProperties": False,
    }
    grammar = grammar_of_schema(schema)
    n_whole = 0
    with Context(weights, n_ctx=512, n_batch=64, n_threads=1) as context:
        for seed in range(6):
            hot = Sampling(temperature=1.5, top_k=0, top_p=1, min_p=0, seed=seed)
            context.keep(0, 0)
            token, said = 40, b""
            with Sampler(weights, hot, grammar=grammar) as sampler:
                for _ in range(400):
                    context.clear()
                    at = context.n_held(0)
                    index = context.add([token], seq=0, position=at, wants_logits=True)
                    assert context.decode() == "ok"
                    token = sampler.sample(context, index)
                    if weights.is_end(token):
                        break
                    said += weights.piece(token)
                else:
                    continue
            document = json.loads(said.decode("utf-8", "replace"))
            assert document["kind"] in ("call", "größe")
            assert -5 <= document["n"] <= 130
            # A random model writes bytes that are no UTF-8; each of them may become a character.
            assert all(len(name) <= 3 or "\ufffd" in name for name in document["names"])
            assert set(document) <= {"kind", "n", "names", "maybe"}
            n_whole += 1
    assert n_whole >= 3
