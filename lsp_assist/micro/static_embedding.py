"""Trains the table of the static embedder: a vector for each entry of a vocabulary.

A text's vector is the weighted sum of its entries' vectors; a question and the code that answers it
are drawn together, and apart from the other pairs of the batch (multiple negatives ranking loss).
Batches hold neighbours of one package, which are the hard negatives of a search in one project.
How often an entry says something is learnt as its norm. The same pairs and seed give the same
table. Knows no parser, no packages and no way to read the table later.

Source: sentence-transformers' StaticEmbedding and MultipleNegativesRankingLoss, whose tokeniser
would bring five libraries to run time; LOG.md has what was tried.
"""

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lsp_assist.errors import BadInput
from lsp_assist.micro.pairs import Pair
from lsp_assist.words import Vocabulary, parts_of, words_of

__all__ = [
    "Encoded",
    "Recipe",
    "Table",
    "TrainProgress",
    "encode",
    "quantised",
    "table_of",
    "train",
    "vocabulary_of",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides the table beside the pairs."""

    n_entries: int = 40_000
    n_dims: int = 256
    n_epochs: int = 2
    batch_size: int = 2_048
    block_size: int = 32
    """Pairs of one package that stand together in a batch."""
    learning_rate: float = 0.04
    scale: float = 20.0
    """Of the cosines before the softmax."""
    name_share: float = 0.5
    """Of the pairs of a name and its code, which are many and say little."""
    max_entries: int = 400
    """Of a text, the first ones."""
    seed: int = 20261120


@dataclass(frozen=True, slots=True)
class Table:
    """A trained table: of row i, the vector is `vectors[i] * scales[i]`."""

    vocabulary: Vocabulary
    vectors: NDArray[np.int8]
    scales: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TrainProgress:
    """How far training is."""

    step: int
    n_steps: int
    loss: float
    eta_s: float


@dataclass(frozen=True, slots=True)
class Encoded:
    """Texts as entries and their counts: the entries of text i stand at starts[i]:starts[i + 1]."""

    entries: NDArray[np.int32]
    weights: NDArray[np.float32]
    starts: NDArray[np.int64]

    def bags(self, chosen: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Entries, weights and offsets of some texts, as an embedding bag takes them."""
        spans = [np.arange(self.starts[i], self.starts[i + 1]) for i in chosen]
        at = np.concatenate(spans)
        offsets = np.cumsum([0, *map(len, spans[:-1])])
        return (
            torch.from_numpy(self.entries[at]).long(),
            torch.from_numpy(self.weights[at]),
            torch.from_numpy(offsets),
        )


def table_of(
    pairs: Sequence[Pair], recipe: Recipe, report: Callable[[TrainProgress], None] = lambda _: None
) -> Table:
    """The vocabulary of the pairs and its trained vectors, quantised.

    Raises: BadInput if there are fewer pairs than a step takes
    """
    rng = random.Random(recipe.seed)
    # A project may be there as two packages, its files at two paths.
    once = {(pair.query, pair.code.partition("\n")[2]): pair for pair in pairs}
    used = [p for p in once.values() if p.kind != "name" or rng.random() < recipe.name_share]
    if len(used) < recipe.batch_size:
        raise BadInput(
            f"There are {len(used):,} pairs to learn from and a step takes {recipe.batch_size:,}; "
            "gather more with `lsp-assist micro gather`."
        )
    vocabulary = vocabulary_of(used, recipe.n_entries)
    queries = encode((pair.query for pair in used), vocabulary, recipe.max_entries)
    codes = encode((pair.code for pair in used), vocabulary, recipe.max_entries)
    table = train(queries, codes, recipe, len(vocabulary), report)
    return Table(vocabulary, *quantised(table))


def vocabulary_of(pairs: Sequence[Pair], n_entries: int) -> Vocabulary:
    """The commonest parts of words in the pairs, the commonest first."""
    words: Counter[str] = Counter()
    for pair in pairs:
        words.update(words_of(pair.query))
        words.update(words_of(pair.code))
    parts: Counter[str] = Counter()
    for word, count in words.items():
        for part in parts_of(word):
            if not part.isdigit() or len(part) <= 3:
                parts[part] += count
    ranked = sorted(parts.items(), key=lambda item: (-item[1], item[0]))
    return Vocabulary([part for part, _ in ranked[:n_entries]])


def encode(texts: Iterable[str], vocabulary: Vocabulary, max_entries: int) -> Encoded:
    """The texts as bags: a repeated entry weighs the square root of its count."""
    entries: list[NDArray[np.int32]] = []
    weights: list[NDArray[np.float32]] = []
    for text in texts:
        counts = Counter(vocabulary.numbers(text)[:max_entries])
        entries.append(np.fromiter(counts.keys(), np.int32, len(counts)))
        weights.append(np.sqrt(np.fromiter(counts.values(), np.float32, len(counts))))
    starts = np.cumsum([0, *map(len, entries)], dtype=np.int64)
    return Encoded(np.concatenate(entries), np.concatenate(weights), starts)


def train(
    queries: Encoded,
    codes: Encoded,
    recipe: Recipe,
    n_entries: int,
    report: Callable[[TrainProgress], None] = lambda _: None,
) -> NDArray[np.float32]:
    """The trained table, shape (n_entries, n_dims)."""
    torch.manual_seed(recipe.seed)
    bag = torch.nn.EmbeddingBag(n_entries, recipe.n_dims, mode="sum")
    with torch.no_grad():
        bag.weight.mul_(_rarity(codes, n_entries)[:, None])
    optimizer = torch.optim.Adam(bag.parameters(), lr=recipe.learning_rate, fused=True)
    batches = list(_batches(queries, codes, recipe))
    n_steps = len(batches)
    n_warm = max(1, n_steps // 10)
    started = time.monotonic()
    for step, chosen in enumerate(batches):
        rate = min((step + 1) / n_warm, (n_steps - step) / max(1, n_steps - n_warm))
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * rate
        vectors = [_unit(bag, encoded.bags(chosen)) for encoded in (queries, codes)]
        scores = vectors[0] @ vectors[1].T * recipe.scale
        own = torch.arange(len(chosen))
        loss = torch.nn.functional.cross_entropy(scores, own)
        loss = (loss + torch.nn.functional.cross_entropy(scores.T, own)) / 2
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        if step % 20 == 19 or step == n_steps - 1:
            eta = (time.monotonic() - started) / (step + 1) * (n_steps - step - 1)
            report(TrainProgress(step + 1, n_steps, loss.item(), eta))
    table: NDArray[np.float32] = bag.weight.detach().numpy()
    return table


def quantised(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """The table as whole numbers up to 127, and a scale for each row."""
    scales = np.maximum(np.abs(table).max(axis=1), 1e-12) / 127
    return np.round(table / scales[:, None]).astype(np.int8), scales.astype(np.float32)


def _rarity(codes: Encoded, n_entries: int) -> torch.Tensor:
    """How much an entry says by how few texts hold it, 1 on average: where its norm begins."""
    n_texts = np.bincount(codes.entries, minlength=n_entries) + 1
    idf = np.log(len(codes.starts) / n_texts)
    return torch.from_numpy((idf / idf.mean()).astype(np.float32))


def _unit(
    bag: torch.nn.EmbeddingBag, bags: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    entries, weights, offsets = bags
    summed = bag(entries, offsets, per_sample_weights=weights)
    return torch.nn.functional.normalize(summed, dim=1)


def _batches(queries: Encoded, codes: Encoded, recipe: Recipe) -> Iterator[NDArray[np.int64]]:
    """Pairs of each step: blocks of neighbours, shuffled anew for each epoch."""
    rng = np.random.default_rng(recipe.seed)
    usable = np.flatnonzero((np.diff(queries.starts) > 0) & (np.diff(codes.starts) > 0))
    for _ in range(recipe.n_epochs):
        first = rng.integers(recipe.block_size)
        blocks = np.split(
            usable, np.arange(first or recipe.block_size, len(usable), recipe.block_size)
        )
        order = rng.permutation(len(blocks))
        shuffled = np.concatenate([blocks[i] for i in order])
        for start in range(0, len(shuffled) - recipe.batch_size + 1, recipe.batch_size):
            yield shuffled[start : start + recipe.batch_size]
