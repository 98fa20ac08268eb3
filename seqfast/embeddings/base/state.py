"""What training, checkpoints and groups know of a model: words, matrices, how far it has come."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from seqfast.embeddings.base.kernels import Kernels
from seqfast.embeddings.base.run import Run
from seqfast.embeddings.base.runtime import Runtime
from seqfast.embeddings.corpus.vocabulary import Corpus, Vocabulary
from seqfast.embeddings.formats.safetensors import FileKind

Array = npt.NDArray[Any]


class Settings(Protocol):
    """What decides a result and a checkpoint carries: a frozen dataclass with these among it.

    A field with a default is one that older files need not carry.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def vector_size(self) -> int: ...
    @property
    def min_count(self) -> int: ...
    @property
    def max_vocab_size(self) -> int | None: ...
    @property
    def max_final_vocab(self) -> int | None: ...
    @property
    def alpha(self) -> float: ...
    @property
    def tokens_per_period(self) -> int | None: ...
    def check(self) -> None: ...


class State(abc.ABC):
    """Base of the states of models. Matrices are float32 [rows, stride], columns in front."""

    model_name: ClassVar[str]  # as errors and TensorBoard name it
    file_kind: ClassVar[FileKind]
    run_class: ClassVar[type[Run]]
    begun_anew: ClassVar[frozenset[str]] = frozenset()
    """Matrices of which nothing is kept when words are added."""
    rate_name: ClassVar[str] = "alpha"
    """The setting that is the learning rate, as errors name it."""

    def __init__(self, settings: Settings, runtime: Runtime) -> None:
        self.settings = settings
        self.runtime = runtime
        self.vocabulary = Vocabulary([], np.zeros(0, np.int64))
        self.matrices: dict[str, Array] = {}
        self.locked: Any = None  # words, ids, or bool [V]: rows that stay as they are
        self.corpus: Corpus | None = None  # read last
        self.corpus_count = 0
        self.corpus_total_words = 0
        self.train_count = 0
        self.kernels: Kernels | None = None  # while it trains
        self.forget_training()

    def forget_training(self) -> None:
        self.loss_per_epoch: list[float] = []
        self.mean_loss_per_epoch: list[float] = []
        self.epochs_trained = 0
        self.run: Run | None = None  # unfinished
        self.trained_on: str | None = None  # the fingerprint of a corpus
        self.latest_loss = 0.0

    # ---- what a model adds ----

    @abc.abstractmethod
    def new_matrices(self, words: int) -> dict[str, Array]:
        """Zeros for so many words; one of them is called vectors."""

    @abc.abstractmethod
    def draw_first_values(self, matrices: dict[str, Array], known: int) -> None:
        """What matrices begin with, behind the rows of the known words."""

    def width(self, name: str) -> int:
        """Columns of a matrix that count, and that files carry."""
        return self.settings.vector_size

    # ---- words and matrices ----

    def __len__(self) -> int:
        return len(self.vocabulary)

    def columns(self, name: str) -> Array:
        """A matrix without what pads its rows, [rows, vector_size]: a view, and up to date."""
        self.fetch()
        return self.matrices[name][:, : self.settings.vector_size]

    def fetch(self) -> None:
        """Brings the matrices here from the device they are trained on."""
        if self.kernels is not None:
            self.kernels.fetch()

    def row_of(self, key: str | int) -> int:
        """The id of a word; an id is checked. Raises KeyError, which names the word, IndexError."""
        if isinstance(key, str):
            try:
                return self.vocabulary.index[key]
            except KeyError:
                raise KeyError(
                    f"{self.model_name}: {key!r} is not in the vocabulary of {len(self)} words"
                ) from None
        if not isinstance(key, (int, np.integer)) or isinstance(key, bool):
            raise TypeError(f"{self.model_name}: a word must be a str or an id, got {key!r}")
        if not 0 <= key < len(self):
            raise IndexError(f"{self.model_name}: ids must be from 0 to {len(self) - 1}, got {key}")
        return int(key)

    def locked_rows(self) -> Array | None:
        """`locked` as uint8 [V]."""
        if self.locked is None:
            return None
        if isinstance(self.locked, (str, bytes)) or not isinstance(self.locked, Iterable):
            raise TypeError(
                f"{self.model_name}: locked must be words, ids or a bool array, got {self.locked!r}"
            )
        if isinstance(self.locked, Iterator):
            self.locked = list(self.locked)  # it is asked for more than once
        rows = np.zeros(len(self), np.uint8)
        listed = self.locked if isinstance(self.locked, np.ndarray) else list(self.locked)
        if isinstance(listed, np.ndarray) and listed.dtype == np.bool_:
            if listed.shape != rows.shape:
                raise ValueError(
                    f"{self.model_name}: locked must be [{len(self)}], got {list(listed.shape)}"
                )
            rows[listed] = 1
        else:
            rows[[self.row_of(key) for key in listed]] = 1
        return rows

    def set_vocabulary(self, vocabulary: Vocabulary, update: bool, initial_vectors: Any) -> None:
        """Matrices for a vocabulary, of which the first words are known if `update`."""
        known = len(self) if update else 0
        matrices = self.new_matrices(len(vocabulary))
        vectors = matrices["vectors"][:, : self.settings.vector_size]
        if known:
            for name in matrices.keys() & self.matrices.keys() - self.begun_anew:
                matrices[name][:known] = self.matrices[name]
            locked = self.locked_rows()
            if locked is not None:
                locked = np.concatenate([locked, np.zeros(len(vocabulary) - known, np.uint8)])
                self.locked = locked.astype(bool)
        else:
            self.forget_training()
        self.draw_first_values(matrices, known)
        if initial_vectors is not None:
            self._copy_vectors(initial_vectors, vectors, vocabulary, known)
        self.vocabulary, self.matrices, self.run = vocabulary, matrices, None

    def take_vectors(self, source: Any) -> list[int]:
        """Copies the vectors of the words that `source` has, too; returns their rows."""
        return self._copy_vectors(source, self.columns("vectors"), self.vocabulary, 0)

    def _copy_vectors(
        self, source: Any, vectors: Array, vocabulary: Vocabulary, first_row: int
    ) -> list[int]:
        if hasattr(source, "key_to_index") and hasattr(source, "vectors"):
            index, table = source.key_to_index, source.vectors
        elif isinstance(source, Mapping):
            index, table = {word: word for word in source}, source
        else:
            raise TypeError(
                f"{self.model_name}: initial vectors must be a mapping of words to vectors, "
                f"KeyedVectors or a {self.model_name}, got {type(source).__name__}"
            )
        taken = []
        for row in range(first_row, len(vocabulary)):
            word = vocabulary.words[row]
            if word not in index:
                continue
            vector = np.asarray(table[index[word]], np.float32)
            if vector.shape != vectors.shape[1:]:
                raise ValueError(
                    f"{self.model_name}: the vector of {word!r} must be [{vectors.shape[1]}], got "
                    f"{list(vector.shape)}"
                )
            if not np.isfinite(vector).all():
                raise ValueError(f"{self.model_name}: the vector of {word!r} must be finite")
            vectors[row] = vector
            taken.append(row)
        return taken

    # ---- a run ----

    def new_run(self, corpus: Corpus, *, epochs: int, alpha: float, min_alpha: float) -> Run:
        """From the begin of the corpus."""
        # The random numbers of an epoch given up are used.
        given_up = self.run is not None and self.run.next_round > 0
        return self.run_class(
            epochs=int(epochs),
            alpha=float(alpha),
            min_alpha=float(min_alpha),
            first_epoch=self.epochs_trained + given_up,
            tokens=len(corpus.ids),
            raw_words=corpus.raw_words,
            fingerprint=corpus.fingerprint,
        )

    def begin(self, run: Run, corpus: Corpus) -> None:
        """A run that is new, or goes on: it takes the place of what was there."""
        if run is not self.run:
            self.epochs_trained = run.first_epoch
        self.corpus, self.run, self.trained_on = corpus, run, corpus.fingerprint

    def end_epoch(self, run: Run) -> None:
        self.loss_per_epoch.append(run.loss)
        self.mean_loss_per_epoch.append(run.loss / run.examples if run.examples else 0.0)
        self.epochs_trained += 1
        run.end_epoch()

    def end_run(self, run: Run) -> None:
        self.latest_loss = run.total_loss
        self.run = None
        self.train_count += 1

    def check_same_corpus(self, corpus: Corpus) -> None:
        """ValueError where it is not the one that was trained on."""
        if corpus.fingerprint != self.trained_on:
            raise ValueError(
                f"{self.model_name}: corpus must be the one that the run began with, fingerprint "
                f"{self.trained_on}, got {corpus.fingerprint}"
            )
