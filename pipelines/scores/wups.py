"""WUPS, NExT-QA's open-ended score: how near an answer's words are to the right one's in WordNet."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Final, Protocol

from cache_schema.errors import InputError
from pipelines.scores.answered import Answered
from pipelines.scores.score_rows import ScoreRow

FOLDER: Final = "open"
STOP_WORDS: Final = f"{FOLDER}/stopwords.txt"
SECOND_ANSWERS: Final = f"{FOLDER}/add_reference_answer_*.json"
EXACT_TYPES: Final = frozenset({"DC", "DB"})
"""Counting and yes/no: right or wrong, never near."""
THRESHOLDS: Final = (0.0, 0.9)
_FAR: Final = 0.1
"""What a similarity below the threshold is multiplied by."""
_TYPES: Final = ("CW", "CH", "TN", "TC", "DB", "DC", "DL", "DO")
_GROUPS: Final = {"C": "causal", "T": "temporal", "D": "descriptive"}


class Lexicon(Protocol):
    """What WUPS needs of a language."""

    def lemmas(self, sentence: str) -> list[str]:
        """The words of a sentence in their dictionary forms."""

    def tokens(self, sentence: str) -> list[str]:
        """The words of a sentence as they stand."""

    def similarity(self, one: str, other: str) -> float:
        """Wu-Palmer similarity of the first meanings; 0 where a word has none, or they share nothing."""


def word_similarity(one: str, other: str, threshold: float, lexicon: Lexicon) -> float:
    """1 for the same word; a similarity below the threshold counts a tenth."""
    if one == other:
        return 1.0
    near = lexicon.similarity(one, other)
    return near if near >= threshold else _FAR * near


def phrase_similarity(given: str, right: str, threshold: float, lexicon: Lexicon) -> float:
    """The lesser of both directions; in each, the product over words of their nearest counterpart.

    Words without any counterpart are left out of the product, and a phrase of such words alone is 0: so
    does the owners' script, where the published definition would make the product 0.
    """

    def one_way(words: Sequence[str], others: Sequence[str]) -> float:
        nearest = (
            max((word_similarity(w, o, threshold, lexicon) for o in others), default=0.0)
            for w in words
        )
        counted = [near for near in nearest if near]
        return prod(counted) if counted else 0.0

    there, back = lexicon.tokens(given), lexicon.tokens(right)
    return min(one_way(there, back), one_way(back, there))


def answer_wups(
    given: str,
    right: Sequence[str],
    kind: str,
    threshold: float,
    stop_words: Collection[str],
    lexicon: Lexicon,
) -> float:
    """The best score of an answer against each of the right ones, after the owners' preprocessing.

    Args:
        given: the answer.
        right: one right answer, or two.
        kind: the question's type, `DC` say.
        threshold: 0 or 0.9.
        stop_words: lemmas that do not count.
        lexicon: the words.
    """

    def kept(sentence: str) -> str:
        return " ".join(w for w in lexicon.lemmas(sentence) if w not in stop_words)

    found, wanted = kept(given), [kept(answer) for answer in right]
    if kind in EXACT_TYPES:
        return float(found in wanted)
    return max(phrase_similarity(found, answer, threshold, lexicon) for answer in wanted)


def wups_rows(answered: Sequence[Answered], root: Path) -> Iterator[ScoreRow]:
    """WUPS over all questions, by group and by type, and with the threshold 0.9 over all.

    Args:
        answered: the questions of a split.
        root: the data set's folder, with the owners' stop words.

    Raises:
        InputError: nltk, WordNet or the stop words are not there.
    """
    from pipelines.scores.wordnet_lexicon import WordNetLexicon

    stop_words = _stop_words(root / STOP_WORDS)
    yield from rows_with(WordNetLexicon(), answered, stop_words, _second_answers(root))


def rows_with(
    lexicon: Lexicon,
    answered: Sequence[Answered],
    stop_words: Collection[str],
    second: Mapping[str, str],
) -> Iterator[ScoreRow]:
    """The rows of `wups_rows`, with a lexicon and second right answers by question id."""
    kinds = [_type_of(question) for question in answered]
    by_threshold = {
        threshold: [
            _score(question, kind, threshold, second, stop_words, lexicon)
            for question, kind in zip(answered, kinds, strict=True)
        ]
        for threshold in THRESHOLDS
    }
    yield _mean("wups", "WUPS", by_threshold[0.0])
    yield _mean("wups-0.9", "WUPS, threshold 0.9", by_threshold[0.9])
    members = {_GROUPS[letter]: letter for letter in _GROUPS} | {kind: kind for kind in _TYPES}
    for name, start in members.items():
        chosen = [
            s for s, kind in zip(by_threshold[0.0], kinds, strict=True) if kind.startswith(start)
        ]
        if chosen:
            yield _mean(f"wups {name}", f"WUPS, {name}", chosen)


def _score(
    question: Answered,
    kind: str,
    threshold: float,
    second: Mapping[str, str],
    stop_words: Collection[str],
    lexicon: Lexicon,
) -> float:
    if question.given is None:
        return 0.0
    right = [question.answer]
    if question.question_id in second:
        right.append(second[question.question_id])
    return answer_wups(str(question.given), right, kind, threshold, stop_words, lexicon)


def _mean(key: str, label: str, scores: Sequence[float]) -> ScoreRow:
    value = sum(scores) / len(scores) if scores else None
    return ScoreRow(key=key, label=label, value=value, questions=len(scores))


def _type_of(question: Answered) -> str:
    kind = next(tag.removeprefix("type:") for tag in question.tags if tag.startswith("type:"))
    return "TN" if kind == "TP" else kind


def _stop_words(path: Path) -> frozenset[str]:
    if not path.is_file():
        raise InputError(
            f"WUPS wants the owners' stop words: put stopwords.txt of doc-doc/NExT-OE at {path}"
        )
    return frozenset(path.read_text(encoding="utf-8").split())


def _second_answers(root: Path) -> dict[str, str]:
    """Question id -> the second right answer that the owners added to some videos."""
    found = dict[str, str]()
    for path in sorted(root.glob(SECOND_ANSWERS)):
        try:
            videos = json.loads(path.read_text(encoding="utf-8"))
            found |= {f"{v}_{q}": str(a) for v, asked in videos.items() for q, a in asked.items()}
        except (ValueError, AttributeError) as error:
            raise InputError(
                f"{path} is not an object of videos, each an object of answers: {error}"
            ) from error
    return found
