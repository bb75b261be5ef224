"""English as WordNet 3.0 has it, by NLTK: the words that NExT-QA's owners compare."""

import importlib
from functools import lru_cache
from typing import Any, Final

from cache_schema.errors import InputError

DATA: Final = ("wordnet", "averaged_perceptron_tagger_eng")
_PARTS: Final = {"NN": "n", "JJ": "a", "VB": "v", "RB": "r"}
"""Penn's tags, by their first letters, as WordNet names parts of speech."""


class WordNetLexicon:
    """Lemmas as pywsd makes them for the owners' script, and Wu-Palmer similarity as NLTK has it.

    Raises:
        InputError: nltk or its data are not there; says what to do.
    """

    def __init__(self) -> None:
        try:
            nltk: Any = importlib.import_module("nltk")
        except ModuleNotFoundError:
            raise InputError(
                "WUPS wants WordNet by nltk: pip install 'videodistill-cache[wups]', then python -m "
                f"nltk.downloader {' '.join(DATA)}"
            ) from None
        self._nltk = nltk
        self._wordnet = nltk.corpus.wordnet
        self._lemmatizer, self._stemmer = nltk.WordNetLemmatizer(), nltk.PorterStemmer()
        try:
            self._wordnet.ensure_loaded()
            nltk.pos_tag(["word"])
        except LookupError:
            raise InputError(
                f"WUPS wants WordNet and a tagger from NLTK's data: python -m nltk.downloader {' '.join(DATA)}"
            ) from None
        self.similarity = lru_cache(maxsize=1_000_000)(self._similarity)
        self._lemma = lru_cache(maxsize=200_000)(self._make_lemma)

    def lemmas(self, sentence: str) -> list[str]:
        """Each word in lower case and in its dictionary form, by its part of speech in the sentence."""
        tagged = self._nltk.pos_tag(self.tokens(sentence))
        return [self._lemma(word.lower(), _PARTS.get(tag[:2], "")) for word, tag in tagged]

    def tokens(self, sentence: str) -> list[str]:
        """Penn Treebank's words; an answer is one sentence."""
        words: list[str] = self._nltk.word_tokenize(sentence, preserve_line=True)
        return words

    def _make_lemma(self, word: str, part: str) -> str:
        """The lemma that WordNet knows, or the stem that it knows, or the word as it is."""
        part = part or _PARTS.get(self._nltk.pos_tag([word])[0][1][:2], "n")
        lemma: str = self._lemmatizer.lemmatize(word, pos=part)
        if self._wordnet.synsets(lemma):
            return lemma
        stem: str = self._stemmer.stem(word)
        return stem if self._wordnet.synsets(stem) else word

    def _similarity(self, one: str, other: str) -> float:
        here, there = self._wordnet.synsets(one), self._wordnet.synsets(other)
        if not here or not there:
            return 0.0
        return float(here[0].wup_similarity(there[0]) or 0.0)
