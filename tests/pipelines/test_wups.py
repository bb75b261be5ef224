"""WUPS against hand-computed scores: with a taxonomy of seven words, and with a WordNet of five."""

import json
import sys

import pytest

from cache_schema import Question
from cache_schema.errors import InputError
from pipelines.datasets.annotations import Annotations
from pipelines.datasets.registry import find
from pipelines.scores.answered import Answered
from pipelines.scores.score_report import describe_score, score
from pipelines.scores.wordnet_lexicon import WordNetLexicon
from pipelines.scores.wups import answer_wups, phrase_similarity, rows_with, word_similarity

PARENT = {
    "dog": "animal",
    "cat": "animal",
    "animal": "thing",
    "ball": "thing",
    "run": "act",
    "walk": "act",
}
"""Two trees; `thing` and `act` are roots, at depth 1."""


class Taxonomy:
    """Words split at blanks, a plural `s` dropped, and Wu-Palmer on the trees above."""

    def lemmas(self, sentence):
        return [word.removesuffix("s") for word in sentence.lower().split()]

    def tokens(self, sentence):
        return sentence.split()

    def similarity(self, one, other):
        here, there = self._line(one), self._line(other)
        shared = [name for name in here if name in there]
        if not shared:
            return 0.0
        depth = len(self._line(shared[0]))
        return 2 * depth / (len(here) + len(there))

    def _line(self, word):
        if word not in {*PARENT, *PARENT.values()}:
            return []
        line = [word]
        while line[-1] in PARENT:
            line.append(PARENT[line[-1]])
        return line


LEXICON = Taxonomy()


@pytest.mark.parametrize(
    ("one", "other", "threshold", "expected"),
    [
        pytest.param("dog", "dog", 0.9, 1.0, id="same"),
        pytest.param("zzz", "zzz", 0.0, 1.0, id="same, though unknown"),
        pytest.param("dog", "cat", 0.0, 4 / 6, id="siblings: 2x2 / (3+3)"),
        pytest.param("dog", "cat", 0.9, 0.4 / 6, id="siblings are below 0.9: a tenth"),
        pytest.param("dog", "animal", 0.0, 4 / 5, id="parent"),
        pytest.param("dog", "ball", 0.0, 2 / 5, id="through the root"),
        pytest.param("dog", "run", 0.0, 0.0, id="other tree"),
        pytest.param("dog", "zzz", 0.0, 0.0, id="unknown"),
    ],
)
def test_words(one, other, threshold, expected):
    assert word_similarity(one, other, threshold, LEXICON) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("given", "right", "expected"),
    [
        pytest.param("dog run", "dog run", 1.0, id="same"),
        pytest.param("run dog", "dog run", 1.0, id="order does not matter"),
        pytest.param("cat run", "dog run", 4 / 6, id="one word off"),
        pytest.param("cat walk", "dog run", 4 / 6 * 2 / 4, id="two words off"),
        pytest.param("dog", "dog run", 1.0, id="`run` has no counterpart and is left out"),
        pytest.param("dog ball", "dog", 2 / 5, id="the extra word's nearest counts"),
        pytest.param("zzz", "dog", 0.0, id="no counterpart at all"),
        pytest.param("", "dog", 0.0, id="nothing left"),
    ],
)
def test_phrases(given, right, expected):
    assert phrase_similarity(given, right, 0.0, LEXICON) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("given", "right", "kind", "expected"),
    [
        pytest.param("the Dogs", ["dog"], "CW", 1.0, id="stop word, case and plural do not count"),
        pytest.param("cat", ["ball", "dog"], "CW", 4 / 6, id="the better of two right answers"),
        pytest.param("cat", ["dog"], "DC", 0.0, id="counting is not near"),
        pytest.param("the cats", ["cat"], "DC", 1.0, id="counting after preprocessing"),
        pytest.param("cat", ["dog", "cat"], "DB", 1.0, id="yes/no: one of both"),
    ],
)
def test_answers(given, right, kind, expected):
    assert answer_wups(given, right, kind, 0.0, {"the"}, LEXICON) == pytest.approx(expected)


def _answered(name, kind, answer, given):
    tags = (f"type:{kind}",)
    return Answered(question_id=name, tags=tags, answer=answer, given=given, right=given == answer)


def test_rows():
    questions = [
        _answered("v_0", "CW", "dog", "cat"),
        _answered("v_1", "TP", "dog", "dog"),
        _answered("v_2", "DC", "two", None),
        _answered("v_3", "TN", "ball", "cat"),
    ]
    rows = list(rows_with(LEXICON, questions, frozenset(), {"v_3": "cat"}))
    found = {row.key: (pytest.approx(row.value), row.questions) for row in rows}
    assert found == {
        "wups": ((4 / 6 + 1 + 0 + 1) / 4, 4),
        "wups-0.9": ((0.4 / 6 + 1 + 0 + 1) / 4, 4),
        "wups causal": (4 / 6, 1),
        "wups temporal": (1.0, 2),
        "wups descriptive": (0.0, 1),
        "wups CW": (4 / 6, 1),
        "wups TN": (1.0, 2),
        "wups DC": (0.0, 1),
    }


QUESTION = Question(
    question_id="v_0",
    clip_id="v",
    question="?",
    answer="dog",
    split="test",
    tags=("type:CW", "group:causal"),
)


def _scored(tmp_path):
    (tmp_path / "given.json").write_text(json.dumps({"v_0": "cat"}))
    annotations = Annotations(clips=[], questions=[QUESTION])
    return score(find("nextqa-open"), annotations, tmp_path / "given.json", root=tmp_path)


def _put_stop_words(root):
    (root / "open").mkdir()
    (root / "open" / "stopwords.txt").write_text("the\na\n")


def test_without_what_it_needs_the_report_says_so(tmp_path, monkeypatch):
    assert "open/stopwords.txt" in describe_score(_scored(tmp_path))
    _put_stop_words(tmp_path)
    monkeypatch.setitem(sys.modules, "nltk", None)
    report = _scored(tmp_path)
    assert "videodistill-cache[wups]" in describe_score(report)
    assert report.value("all") == 0.0
    assert report.value("wups") is None


def test_with_what_it_needs_the_report_has_it(tmp_path, monkeypatch):
    _put_stop_words(tmp_path)
    (tmp_path / "open" / "add_reference_answer_test.json").write_text('{"v": {"0": "cats"}}')
    monkeypatch.setattr("pipelines.scores.wordnet_lexicon.WordNetLexicon", Taxonomy)
    report = _scored(tmp_path)
    assert (report.value("wups"), report.notes) == (1.0, [])


def test_second_answers_of_another_form_are_told(tmp_path, monkeypatch):
    _put_stop_words(tmp_path)
    (tmp_path / "open" / "add_reference_answer_test.json").write_text("[]")
    monkeypatch.setattr("pipelines.scores.wordnet_lexicon.WordNetLexicon", Taxonomy)
    assert "is not an object of videos" in _scored(tmp_path).notes[0]


def _write_wordnet(folder):
    """A WordNet of five nouns and one verb, in the form of its own files."""
    nouns = [("entity", None), ("animal", 0), ("dog", 1), ("cat", 1), ("ball", 0)]
    _write_part(folder, "noun", "n", nouns)
    _write_part(folder, "verb", "v", [("run", None)])
    for part in ("adj", "adv"):
        _write_part(folder, part, part[0], [])
    for part in ("noun", "verb", "adj", "adv"):
        (folder / f"{part}.exc").write_text("")
    (folder / "index.sense").write_text("")
    (folder / "lexnames").write_text("".join(f"{n:02d}\tname{n}\t1\n" for n in range(4)))


def _write_part(folder, part, letter, words):
    lines, offsets = [], []
    for number, (word, parent) in enumerate(words):
        offsets.append(sum(map(len, lines)))
        pointers = f"001 @ {offsets[parent]:08d} {letter} 0000" if parent is not None else "000"
        frames = " 00" if letter == "v" else ""
        lines.append(
            f"{offsets[number]:08d} 03 {letter} 01 {word} 0 {pointers}{frames} | gloss  \n"
        )
    (folder / f"data.{part}").write_text("".join(lines))
    index = (
        f"{word} {letter} 1 {parent is not None:d} {'@ ' if parent is not None else ''}1 0 {offset:08d}  \n"
        for (word, parent), offset in zip(words, offsets, strict=True)
    )
    (folder / f"index.{part}").write_text("".join(index))


def test_nltk_and_wordnets_own_files(tmp_path, monkeypatch):
    nltk = pytest.importorskip("nltk", reason="nltk is not installed (the extra `wups`)")
    (tmp_path / "corpora" / "wordnet").mkdir(parents=True)
    _write_wordnet(tmp_path / "corpora" / "wordnet")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    monkeypatch.setattr(nltk, "pos_tag", lambda words: [(word, "NNS") for word in words])
    lexicon = WordNetLexicon()
    assert lexicon.lemmas("Dogs chased cats") == ["dog", "chased", "cat"]
    assert lexicon.similarity("dog", "cat") == pytest.approx(2 * 2 / (3 + 3))
    assert lexicon.similarity("dog", "ball") == pytest.approx(2 * 1 / (3 + 2))
    assert lexicon.similarity("dog", "zzz") == 0.0


def test_data_that_nltk_lacks_is_told_with_the_command(monkeypatch):
    nltk = pytest.importorskip("nltk", reason="nltk is not installed (the extra `wups`)")
    monkeypatch.setattr(nltk.data, "path", [])
    with pytest.raises(InputError, match=r"python -m nltk\.downloader wordnet"):
        WordNetLexicon()
