"""Words of code and of questions as search terms, and the BM25 score over them.

An identifier counts as a whole and in its parts: `maxRetries` gives `maxretries`, `max`, `retri`.
Parts are stemmed, so that "where is it retried" finds `retry()`. Pure: knows no file, no store.

Source: docstring and commit search measured on five lexical rankers (LOG.md, 2026-11): split +
whole + stem, the name counted twice, is the best of them.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache

__all__ = ["Corpus", "bm25", "merged_corpus", "query_terms", "spelled_names", "terms"]

_WORD = re.compile(r"\w+")
_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
# With an underscore, a capital or a digit within, a dot between words, or brackets behind.
_SPELLED = re.compile(r"\w+(?:\.\w+)+|\w+\(|\w*[^\W_]_\w+|_\w+|\w*[a-z][A-Z]\w*|\w*[a-zA-Z]\d\w*")
_CONTRACTION = re.compile(r"(?<=\w)['’](s|re|ll|d|ve|m|t)\b")  # noqa: RUF001  # typed as well
_MAX_WORD_CHARS = 64  # longer ones are hashes and encoded data

K1 = 1.2
B = 0.75

# Words of a question that say how it is asked and not what it is about.
_QUESTION_WORDS = frozenset(
    (
        "a an and any are as at be been but by can could did do does doing done for from had has "
        "have he her here his how i if in into is it its just let lets like may me might my no "
        "not of on or our out please shall she should so some such tell than that the their them "
        "then there these they this those to us was we were what whats when where wheres which "
        "who whom whose why will with would you your code explain happen happens happening "
        "implement implemented implementation work works "
    ).split()
)


def terms(text: str) -> list[str]:
    """The terms of a text, in order, repetitions included."""
    found: list[str] = []
    for word in _WORD.findall(text):
        found.extend(_word_terms(word))
    return found


def spelled_names(question: str) -> frozenset[str]:
    """Words of a question that spell a name of the code, in lower case.

    In a sentence those are the ones that no prose has: `max_retries`, `QuerySet.filter`, `send()`.
    A question of one or two words is names altogether.
    """
    words = _WORD.findall(question)
    spelled = words if len(words) <= 2 else [m[0] for m in _SPELLED.finditer(question)]
    return frozenset(word.lower() for name in spelled for word in _WORD.findall(name))


def query_terms(question: str) -> list[str]:
    """The distinct terms that a question is about, in order.

    Words like "where" and "the" are dropped, unless nothing else is left.
    """
    words = _WORD.findall(_CONTRACTION.sub("", question))
    telling = [word for word in words if word.lower() not in _QUESTION_WORDS] or words
    return list(dict.fromkeys(term for word in telling for term in _word_terms(word)))


class Corpus:
    """What BM25 needs to know about all documents: how many, how long, and who holds a term."""

    def __init__(
        self, n_documents: int, n_terms: int, document_frequency: Mapping[str, int]
    ) -> None:
        self.n_documents = n_documents
        self.mean_terms = max(n_terms, 1) / max(n_documents, 1)
        self._document_frequency = document_frequency
        self._idf: dict[str, float] = {}

    def idf(self, term: str) -> float:
        """Weight of a term, more than 0 for any: in a small workspace every word is a common one.

        Source: BM25 as Lucene has it, log(1 + (N - n + 0.5) / (n + 0.5)).
        """
        idf = self._idf.get(term)
        if idf is None:
            n = self._document_frequency.get(term, 0)
            idf = self._idf[term] = math.log1p((self.n_documents - n + 0.5) / (n + 0.5))
        return idf


def bm25(
    query: Sequence[str],
    columns: Iterable[tuple[float, Mapping[str, int]]],
    n_terms: int,
    corpus: Corpus,
) -> float:
    """Score for a query of a document of so many terms, by weighted columns that count them.

    Source: https://www.sqlite.org/fts5.html#the_bm25_function (k1 = 1.2, b = 0.75), but for `idf`:
    FTS5 gives words that more than half of all documents hold no weight, and ranks a small
    workspace by chance.
    """
    columns = list(columns)
    length = K1 * (1 - B + B * n_terms / corpus.mean_terms)
    score = 0.0
    for term in query:
        frequency = 0.0
        for weight, counts in columns:
            frequency += weight * counts.get(term, 0)
        if frequency:
            score += corpus.idf(term) * frequency * (K1 + 1) / (frequency + length)
    return score


def merged_corpus(
    on_disk: tuple[int, int, Counter[str]],
    documents: Iterable[tuple[Collection[str], int]],
    query: Sequence[str],
) -> Corpus:
    """The corpus of what is on disk together with documents that are not.

    Of each of those the distinct terms, and how many it has with repetitions.
    """
    n_documents, n_terms, frequency = on_disk
    frequency = Counter(frequency)
    for distinct, n_own in documents:
        n_documents += 1
        n_terms += n_own
        frequency.update(term for term in query if term in distinct)
    return Corpus(n_documents, n_terms, frequency)


@lru_cache(maxsize=1 << 17)
def _word_terms(word: str) -> tuple[str, ...]:
    if len(word) > _MAX_WORD_CHARS:
        return ()
    whole = word.strip("_").lower()
    # Case says little outside of ASCII identifiers; there only underscores part a word.
    found = _PART.findall(word) if word.isascii() else [part for part in word.split("_") if part]
    parts = [part.lower() for part in found]
    stems = tuple(_stem(part) for part in parts)
    if len(parts) < 2:
        return stems
    return (whole, *stems)


@lru_cache(maxsize=1 << 16)
def _stem(part: str) -> str:
    stem: str = _stemmer().stemWord(part)
    return stem


@lru_cache(maxsize=1)
def _stemmer():  # type: ignore[no-untyped-def]  # PyStemmer carries no types
    import Stemmer

    return Stemmer.Stemmer("english")
