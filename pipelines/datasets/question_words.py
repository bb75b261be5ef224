"""The interrogative that a question begins with, by which open-ended results are broken down."""

from typing import Final

WORDS: Final = frozenset({"what", "who", "how", "when", "where"})


def question_word(question: str) -> str:
    """`what`, `who`, `how`, `when` or `where`; `other` for the rest."""
    first = question.split(maxsplit=1)[0].lower().strip("'\",.?")
    return first if first in WORDS else "other"
