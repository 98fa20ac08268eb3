"""What training, checkpoints and groups know of a model: words, matrices, how far it has come."""

from __future__ import annotations

import abc
import copy
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from seqfast.embeddings.base.kernels import Kernels
from seqfast.embeddings.base.run import Run
from seqfast.embeddings.base.runtime import Runtime
from seqfast.embeddings.corpus.vocabulary import Corpus, Vocabulary
from seqfast.embeddings.files import PathLike
from seqfast.embeddings.formats.safetensors import FileKind
from seqfast.embeddings.formats.word2vec import load_word2vec_format
from seqfast.ops.base.checks import check_choice

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
        self.lock_factors: Array | None = None  # gensim's vectors_lockf, [V] of 0 and 1
        self.attributes: dict[str, Array] = {}  # further things known of each word, [V]
        self.corpus: Corpus | None = None  # read last
        self.corpus_count = 0
        self.corpus_total_words: int | None = 0  # None: a model of gensim's that did not say
        self.train_count = 0
        self.train_seconds = 0.0  # of all calls of train
        self.least_alpha: float | None = None  # of a training so far
        self.kernels: Kernels | None = None  # while it trains
        self.forget_training()

    def forget_training(self) -> None:
        self.loss_per_epoch: list[float] = []
        self.mean_loss_per_epoch: list[float] = []
        self.epochs_trained = 0
        self.run: Run | None = None  # unfinished
        self.trained_on: str | None = None  # the fingerprint of a corpus
        self.latest_loss = 0.0
        self.loss_set_aside = 0.0  # of the loss of a run: what its user does not want to see

    # ---- pickles and copies ----

    def __getstate__(self) -> dict[str, Any]:
        """Without the text, and the matrices without what pads and aligns their rows."""
        self.fetch()
        values = {**self.__dict__, "corpus": None, "kernels": None}
        values["runtime"] = dataclasses.replace(self.runtime, process_group=None)
        size = self.settings.vector_size
        values["matrices"] = {
            name: np.ascontiguousarray(matrix[:, :size]) for name, matrix in self.matrices.items()
        }
        return values

    def __setstate__(self, values: dict[str, Any]) -> None:
        kept = values["matrices"]
        self.__dict__.update(values)
        if kept:
            self.matrices = self.new_matrices(len(self.vocabulary))
            for name, matrix in self.matrices.items():
                matrix[:, : self.settings.vector_size] = kept[name]

    def __deepcopy__(self, memo: dict[int, Any]) -> State:
        copied = object.__new__(type(self))
        memo[id(self)] = copied
        copied.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        copied.corpus = self.corpus  # nobody changes a text that was read
        return copied

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

    def row_of(self, key: Any) -> int:
        """The id of a word; an id is checked. Raises KeyError, which names the word or id."""
        index = self.vocabulary.index
        try:
            place = index.get(key)
        except TypeError:
            raise TypeError(
                f"{self.model_name}: a word must be a str, another hashable object or an id, "
                f"got {key!r}"
            ) from None
        if place is not None:
            return place
        if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
            if not 0 <= key < len(self):
                raise IndexError(
                    f"{self.model_name}: ids must be from 0 to {len(self) - 1}, got {key}"
                )
            return int(key)
        raise KeyError(f"{self.model_name}: {key!r} is not in the vocabulary of {len(self)} words")

    def locked_rows(self) -> Array | None:
        """`locked` and `lock_factors` as uint8 [V]."""
        rows = self._locked_by_name()
        if self.lock_factors is None:
            return rows
        factors = np.asarray(self.lock_factors)
        if factors.shape not in ((len(self),), (1,)):
            raise ValueError(
                f"{self.model_name}: vectors_lockf must be [{len(self)}], or [1] for all words, "
                f"got {list(factors.shape)}"
            )
        if not np.isin(factors, (0, 1)).all():
            wrong = factors[~np.isin(factors, (0, 1))][0]
            raise ValueError(
                f"{self.model_name}: vectors_lockf must be 0 (locked) or 1, got {wrong}"
            )
        if factors.all():
            return rows
        stay = np.broadcast_to(factors == 0, len(self)).astype(np.uint8)
        return stay if rows is None else rows | stay

    def lock_factors_to_write(self) -> Array:
        """`lock_factors` [V], made here where there is none yet."""
        if self.lock_factors is None:
            self.lock_factors = np.ones(len(self), np.float32)
        return self.lock_factors

    def _locked_by_name(self) -> Array | None:
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
            more = len(vocabulary) - known
            attributes = {
                name: np.append(values, np.zeros(more, values.dtype))
                for name, values in self.attributes.items()
            }
        else:
            self.forget_training()
            attributes = {}
        self.draw_first_values(matrices, known)
        if initial_vectors is not None:
            self._copy_vectors(initial_vectors, vectors, vocabulary, known)
        self.vocabulary, self.matrices, self.run = vocabulary, matrices, None
        self.attributes, self.lock_factors = attributes, None

    def add_words(self, words: list[Any], vectors: Array) -> None:
        """Words that are new, with their vectors [words, vector_size] and a count of 0."""
        old = self.vocabulary
        counts = np.append(old.counts, np.zeros(len(words), np.int64))
        vocabulary = dataclasses.replace(old, words=[*old.words, *words], counts=counts)
        given = dict(zip(words, vectors, strict=True))
        self.set_vocabulary(vocabulary, len(old) > 0, given)

    def replace_vectors(self, values: Any) -> None:
        """Copies vectors of all words, [V, vector_size]. Raises ValueError for another shape."""
        vectors = self.columns("vectors") if self.matrices else np.zeros((0, 0), np.float32)
        given = np.asarray(values, np.float32)
        if given.shape != vectors.shape:
            raise ValueError(
                f"{self.model_name}: vectors must be {list(vectors.shape)}, got "
                f"{list(given.shape)}; add_vectors adds words"
            )
        vectors[...] = given

    def derived_attribute(self, name: str) -> Array:
        """Something of each word that is not kept but can be found, [V]. KeyError for others."""
        raise KeyError(f"{self.model_name}: words have no attribute {name!r}")

    def intersect(
        self, path: PathLike, lockf: float, binary: bool, encoding: str, unicode_errors: str
    ) -> int:
        """Takes the vectors of a file in word2vec's format for the words both have."""
        check_choice(self.model_name, "lockf", lockf, (0, 1))
        words, vectors, _ = load_word2vec_format(
            path, binary=binary, encoding=encoding, unicode_errors=unicode_errors
        )
        rows = self.take_vectors(dict(zip(words, vectors, strict=True)))
        self.lock_factors_to_write()[rows] = lockf
        if self.locked is not None:
            locked = self._locked_by_name()
            assert locked is not None
            locked[rows] = not lockf
            self.locked = locked.astype(bool)
        return len(rows)

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
            self.loss_set_aside = 0.0
        self.corpus, self.run, self.trained_on = corpus, run, corpus.fingerprint

    def end_epoch(self, run: Run) -> None:
        self.loss_per_epoch.append(run.loss)
        self.mean_loss_per_epoch.append(run.loss / run.examples if run.examples else 0.0)
        self.epochs_trained += 1
        run.end_epoch()

    def end_run(self, run: Run) -> None:
        rates = [
            run.alpha,
            run.min_alpha,
            *([] if self.least_alpha is None else [self.least_alpha]),
        ]
        self.least_alpha = min(rates)
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
