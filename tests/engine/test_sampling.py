import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from lsp_assist.engine.llama import Context, Weights
from lsp_assist.engine.sampling import Sampler, token_logprob
from lsp_assist.errors import BadInput, ModelUnavailable
from lsp_assist.llm import Sampling
from tests.engine.matching import fits

HOT = Sampling(temperature=2, top_k=0, top_p=1, min_p=0, seed=5)


@pytest.fixture
def context(weights: Weights) -> Iterator[Context]:
    with Context(weights, n_ctx=512, n_batch=64, n_threads=1, head_dim=32) as made:
        yield made


def reply(
    context: Context,
    weights: Weights,
    sampling: Sampling,
    grammar: str,
    n: int = 100,
    first: int = 40,
) -> tuple[str, bool]:
    """What the model says under the grammar, and whether it ended by itself."""
    context.keep(0, 0)
    token, said = first, b""
    with Sampler(weights, sampling, grammar=grammar) as sampler:
        for _ in range(n):
            context.clear()
            index = context.add([token], seq=0, position=context.n_held(0), wants_logits=True)
            assert context.decode() == "ok"
            token = sampler.sample(context, index)
            if weights.is_end(token):
                return said.decode("utf-8", "replace"), True
            said += weights.piece(token)
    return said.decode("utf-8", "replace"), False


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "grammar",
    [
        'root ::= "yes" | "no"',
        'root ::= [0-9]{3} "-" [a-f]{2,8}',
        'root ::= "{" (pair ("," pair){0,3})? "}"\npair ::= [a-z]{1,4} ":" ([0-9]{1,3} | root)',
        'root ::= "größer" " "? "🙂"{1,2}',
    ],
)
def test_what_is_said_fits_the_grammar(
    context: Context, weights: Weights, grammar: str, seed: int
) -> None:
    """A random model obeys; temperature 0 too."""
    hot = Sampling(temperature=2, top_k=0, top_p=1, min_p=0, seed=seed)
    for sampling in (hot, Sampling(temperature=0, repeat_penalty=1.1)):
        text, is_ended = reply(context, weights, sampling, grammar)
        if is_ended:
            assert fits(text, grammar), text
        else:  # only the recursive one may go on
            assert "root)" in grammar


def test_control_tokens_are_not_said_where_their_spelling_fits(
    context: Context, weights: Weights
) -> None:
    """`<|im_start|>` would be shown as nothing."""
    text, _ = reply(context, weights, HOT, 'root ::= "<|im_start|>"')
    assert text == "<|im_start|>"


def test_a_grammar_that_allows_what_is_drawn_changes_nothing(
    context: Context, weights: Weights
) -> None:
    """So its cost is that of asking about one token."""
    sampling = Sampling(temperature=0)
    n_equal = 0
    for first in range(40, 80):
        free, _ = reply(context, weights, sampling, "", n=6, first=first)
        if free and free.isprintable() and "\ufffd" not in free:
            bound, _ = reply(context, weights, sampling, "root ::= [^\\x01]*", n=6, first=first)
            assert free == bound
            n_equal += 1
    assert n_equal >= 3


def test_completions_of_one_seed_differ_and_repeat(context: Context, weights: Weights) -> None:
    context.clear()
    index = context.add([40, 41], seq=0, position=context.n_held(0), wants_logits=True)
    assert context.decode() == "ok"

    def draws(completion: int) -> list[int]:
        with Sampler(weights, HOT, completion=completion) as sampler:
            return [sampler.sample(context, index) for _ in range(20)]

    assert draws(0) == draws(0)
    assert draws(1) == draws(1)
    assert draws(0) != draws(1)
    with Sampler(weights, replace(HOT, seed=6)) as sampler:
        assert draws(1) == [sampler.sample(context, index) for _ in range(20)]


@pytest.mark.parametrize("grammar", ['root ::= "a', "root ::= root", "root ::= <no-such-token>"])
def test_a_grammar_that_cannot_be_used_is_bad_input(weights: Weights, grammar: str) -> None:
    with pytest.raises(BadInput) as refused:
        Sampler(weights, Sampling(), grammar=grammar)
    assert refused.value.field == "grammar"


def test_a_grammar_without_a_way_on_is_told(context: Context, weights: Weights) -> None:
    """A token of a number that no vocabulary has: llama.cpp would end the process."""
    with pytest.raises(ModelUnavailable, match="No token of this model fits"):
        reply(context, weights, Sampling(temperature=0), "root ::= <[999999]>")


def test_log_probabilities_are_those_of_the_model(context: Context, weights: Weights) -> None:
    context.clear()
    index = context.add([40, 41], seq=0, position=context.n_held(0), wants_logits=True)
    assert context.decode() == "ok"
    logits = context.logits(index).astype(np.float64)
    expected = logits - np.log(np.exp(logits).sum())
    with Sampler(weights, HOT, n_logprobs=3) as sampler:
        token = sampler.sample(context, index)
        drawn = sampler.logprob
    assert drawn is not None
    assert drawn.token == token
    assert drawn.logprob == pytest.approx(expected[token], abs=1e-4)
    best = np.argsort(-expected)[:3]
    assert [top[0] for top in drawn.top] == best.tolist()
    assert [top[2] for top in drawn.top] == pytest.approx(expected[best], abs=1e-4)
    assert all(text == weights.piece(t, special=True).decode("utf-8", "replace")
               for t, text, _ in drawn.top)  # fmt: skip


def test_log_probabilities_of_a_whole_vocabulary_sum_to_one(weights: Weights) -> None:
    logits = np.linspace(-30, 90, weights.n_vocab, dtype=np.float32)
    of_all = token_logprob(weights, logits, 0, weights.n_vocab + 5)
    assert len(of_all.top) == weights.n_vocab
    assert sum(np.exp(p) for _, _, p in of_all.top) == pytest.approx(1, abs=1e-4)
    assert all(a[2] >= b[2] for a, b in itertools.pairwise(of_all.top))
    assert token_logprob(weights, logits, 0, 0).top == ()
