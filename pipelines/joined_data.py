"""Several data sets as one to train on: their questions, and the sentences and features of these.

Shapes: B = clips, N = frames, K = selected, P = patches, D = width.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cache_schema import FeatureIdentity, SentenceTable
from cache_schema.errors import IdentityMismatch, InputError
from cache_schema.tables.question_table import QUESTION_FORM, QuestionTable
from train.features import FeatureReader, Half


class JoinedFeatures:
    """Several stores of one identity, read as one."""

    def __init__(self, stores: Sequence[FeatureReader]) -> None:
        """Take the stores, each once.

        Raises:
            IdentityMismatch: their features are not of one kind.
            InputError: a clip's name stands in two of them.
        """
        first, *others = stores
        for other in others:
            if other.identity.digest != first.identity.digest:
                differing = "; ".join(first.identity.differences(other.identity))
                raise IdentityMismatch(
                    f"The data sets' stores hold different features, {first.identity.name} and "
                    f"{other.identity.name}: {differing}. Extract both alike to train on them together."
                )
        self._stores: Final = tuple(stores)
        self._place: dict[str, int] = {}
        for place, store in enumerate(stores):
            if twice := self._place.keys() & set(store.clip_ids):
                raise InputError(
                    f"{len(twice):,} clips of two data sets have the same name (first: {min(twice)!r}); "
                    "they can only be trained on one after the other, with --start-from."
                )
            self._place |= dict.fromkeys(store.clip_ids, place)

    @property
    def identity(self) -> FeatureIdentity:
        """What all features are."""
        return self._stores[0].identity

    @property
    def version(self) -> int:
        """The highest of the manifest versions that are read."""
        return max(store.version for store in self._stores)

    @property
    def clip_ids(self) -> Sequence[str]:
        """The clips of all stores."""
        return list(self._place)

    def read_cls(self, clip_ids: Sequence[str], out: Half | None = None) -> Half:
        """CLS features [B, N, D]."""
        if out is None:
            out = np.empty((len(clip_ids), self.identity.frames, self.identity.dim), np.float16)
        for place, rows in self._by_store(clip_ids):
            out[rows] = self._stores[place].read_cls([clip_ids[row] for row in rows])
        return out

    def read_patches(
        self,
        clip_ids: Sequence[str],
        frames: NDArray[np.int64] | None = None,
        out: Half | None = None,
    ) -> Half:
        """Patch features [B, N, P, D], or [B, K, P, D] of the frames [B, K]."""
        identity = self.identity
        if out is None:
            count = identity.frames if frames is None else frames.shape[1]
            shape = (len(clip_ids), count, identity.patches, identity.dim)
            out = np.empty(shape, np.float16)
        for place, rows in self._by_store(clip_ids):
            out[rows] = self._stores[place].read_patches(
                [clip_ids[row] for row in rows], None if frames is None else frames[rows]
            )
        return out

    def frame_times(self, clip_id: str) -> NDArray[np.float64]:
        """Presentation time of every frame [N], in seconds."""
        return self._stores[self._place[clip_id]].frame_times(clip_id)

    def _by_store(self, clip_ids: Sequence[str]) -> list[tuple[int, NDArray[np.int64]]]:
        """The rows that each store has to fill."""
        places = np.array([self._place[clip_id] for clip_id in clip_ids], np.int64)
        return [(int(place), np.flatnonzero(places == place)) for place in np.unique(places)]


def joined_features(stores: Sequence[FeatureReader]) -> FeatureReader:
    """The only store, or several read as one."""
    return stores[0] if len(stores) == 1 else JoinedFeatures(stores)


def joined_questions(tables: Sequence[QuestionTable]) -> QuestionTable:
    """The questions of all tables, one table's after the other's; columns are copied by reference."""

    def column(name: str) -> pa.ChunkedArray:
        return pa.chunked_array([part for table in tables for part in table.column(name).chunks])

    rows = sum(map(len, tables))
    return tables[0] if len(tables) == 1 else QuestionTable(QUESTION_FORM, column, rows)


def joined_sentences(tables: Sequence[SentenceTable]) -> SentenceTable:
    """The sentence features of all tables, each sentence once.

    Raises:
        InputError: they are of different encoders.
    """
    first, *others = tables
    if not others:
        return first
    if len({table.weights_sha256 for table in tables}) > 1:
        raise InputError("The data sets' sentences are of different encoders; extract both alike.")
    texts = dict.fromkeys(first.texts)
    features = [first.features]
    for table in others:
        new = [row for row, text in enumerate(table.texts) if text not in texts]
        texts |= dict.fromkeys(table.texts[row] for row in new)
        features.append(table.features[new])
    return SentenceTable(
        texts=tuple(texts),
        features=np.concatenate(features),
        encoder=first.encoder,
        weights_sha256=first.weights_sha256,
        context_length=first.context_length,
        truncated=sum(table.truncated for table in tables),
    )
