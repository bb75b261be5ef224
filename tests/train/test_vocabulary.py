import pytest

from cache_schema.errors import InputError
from train.vocabulary import UNKNOWN, Vocabulary

ANSWERS = ["b", "c", "a", "b", "c", "d"]


def test_most_frequent_first_ties_by_text():
    assert Vocabulary.from_answers(ANSWERS, 10).answers == ("b", "c", "a", "d")


def test_limit_drops_the_rarest():
    assert Vocabulary.from_answers(ANSWERS, 3).answers == ("b", "c", "a")


def test_order_of_the_answers_does_not_matter():
    assert Vocabulary.from_answers(ANSWERS[::-1], 10) == Vocabulary.from_answers(ANSWERS, 10)


def test_answers_without_a_class_are_unknown():
    classes = Vocabulary(("b", "c")).classes(["c", "never seen", "b"])
    assert classes.tolist() == [1, UNKNOWN, 0]


def test_the_share_of_answers_that_cannot_be_given():
    vocabulary = Vocabulary(("b", "c"))
    assert vocabulary.unknown_share(["c", "never seen", "b", "nor this"]) == 0.5
    assert vocabulary.unknown_share([]) == 0.0


def test_refuses_to_have_no_classes():
    with pytest.raises(InputError, match="no training answers"):
        Vocabulary.from_answers([], 10)
