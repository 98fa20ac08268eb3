"""The face of a model of word vectors: its words, vocabulary, training and files around a state."""

from __future__ import annotations

import abc
import dataclasses
import functools
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, overload

import numpy as np
import numpy.typing as npt

from seqfast.embeddings.base import checkpoint
from seqfast.embeddings.base.checkpoint import Checkpoints
from seqfast.embeddings.base.run import Run
from seqfast.embeddings.base.state import Settings, State
from seqfast.embeddings.base.wv import vectors_of_model
from seqfast.embeddings.callbacks import (
    LOGGER,
    Log,
    ProgressBar,
    notify,
    reading_bar,
)
from seqfast.embeddings.corpus.reading import encode, read
from seqfast.embeddings.corpus.selection import TrimRule, VocabularySelection
from seqfast.embeddings.corpus.sources import Source
from seqfast.embeddings.corpus.vocabulary import Corpus, Vocabulary
from seqfast.embeddings.distributed import Group
from seqfast.embeddings.files import PathLike, check_writable
from seqfast.embeddings.formats import safetensors
from seqfast.embeddings.formats.word2vec import save_word2vec_format
from seqfast.embeddings.vectors import Queries
from seqfast.ops.base.checks import check_whole

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]
T = TypeVar("T")
M = TypeVar("M", bound="WordVectorModel")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during the training of a constructor.

    `error.model.train(resume=True)` continues, with the same bits if the training is
    deterministic.

    Args:
        model: the partly trained model.

    Example:
        >>> from seqfast.embeddings import Interrupted
        >>> issubclass(Interrupted, KeyboardInterrupt)
        True
    """

    def __init__(self, model: Any) -> None:
        super().__init__("interrupted; error.model.train(resume=True) continues")
        self.model = model


class EmptyVocabulary(ValueError, RuntimeError):
    """The vocabulary is empty. Also a RuntimeError, as in gensim."""


class Delegated(Generic[T]):
    """An attribute of a model that its state holds, or the frozen settings or runtime of it."""

    def __init__(
        self, holder: Literal["state", "settings", "runtime"], name: str | None = None
    ) -> None:
        self._holder, self._given = holder, name

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = self._given or name

    @overload
    def __get__(self, model: None, owner: type) -> Delegated[T]: ...
    @overload
    def __get__(self, model: WordVectorModel, owner: type) -> T: ...
    def __get__(self, model: WordVectorModel | None, owner: type) -> Delegated[T] | T:
        if model is None:
            return self
        holder = model.state if self._holder == "state" else getattr(model.state, self._holder)
        value: T = getattr(holder, self._name)
        return value

    def __set__(self, model: WordVectorModel, value: T) -> None:
        if self._holder == "state":
            setattr(model.state, self._name, value)
        else:
            holder = getattr(model.state, self._holder)
            changed = dataclasses.replace(holder, **{self._name: value})
            setattr(model.state, self._holder, changed)


class WordVectorModel(Queries, abc.ABC):
    """Base of the classes that learn word vectors from a text.

    A class below it has a constructor and `train`; it says what its state and settings are.
    """

    state_class: ClassVar[type[State]]
    settings_class: ClassVar[Callable[..., Settings]]

    workers = Delegated[int | None]("runtime")
    device = Delegated[str]("runtime")
    checkpoint = Delegated[PathLike | None]("runtime")
    checkpoint_every = Delegated[float | str]("runtime")
    distributed = Delegated[bool]("runtime")
    process_group = Delegated[Any]("runtime")
    cache_folder = Delegated[PathLike | None]("runtime")
    memory_limit = Delegated[int | None]("runtime")
    encoding = Delegated[str]("runtime")
    errors = Delegated[str | None]("runtime")
    progress = Delegated[bool]("runtime")
    callbacks = Delegated[list[Any]]("runtime")

    vocabulary = Delegated[Vocabulary]("state")
    """Words by falling count with their counts and index, and what reading the text found."""
    corpus_count = Delegated[int]("state")
    """Sentences read."""
    corpus_total_words = Delegated[int | None]("state")
    """Words read, in the vocabulary or not; None where a model of gensim's did not say."""
    locked = Delegated[Any]("state")
    """Rows that training leaves alone: words, ids, or a bool array [V]."""
    loss_per_epoch = Delegated[list[float]]("state")
    """Of each epoch so far the loss summed over its examples, in nats."""
    mean_loss_per_epoch = Delegated[list[float]]("state")
    """The same per example: a pair (skip-gram) or a window (CBOW)."""
    epochs_trained = Delegated[int]("state")
    train_count = Delegated[int]("state")
    total_train_time = Delegated[float]("state", "train_seconds")
    """Seconds spent in `train`, all calls together."""

    def __init__(self, state: State, trim_rule: TrimRule | None, initial_vectors: Any) -> None:
        self.state = state
        self.trim_rule = trim_rule
        self.initial_vectors = initial_vectors
        self._wv: Any = None
        self._check()

    def __getstate__(self) -> dict[str, Any]:
        """A pickle carries everything but the text that was read last; `train` needs one again."""
        return {**self.__dict__, "_wv": None}

    def __setstate__(self, values: dict[str, Any]) -> None:
        if "state" not in values:
            raise ValueError(
                f"{type(self).__name__}: a pickle must have this version's layout, got an older "
                "one; load it with the version that wrote it, save() it there, and load() the file"
            )
        self.__dict__.update(values)

    def _check(self) -> None:
        """Settings and runtime can be changed, so they are looked at wherever they count."""
        self.state.settings.check()
        self.state.runtime.check(self.state.model_name)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(vocab={len(self)}, "
            f"vector_size={self.state.settings.vector_size}, alpha={self.state.settings.alpha})"
        )

    # ---- words and vectors ----

    @property
    def index_to_key(self) -> list[str]:
        """The words, by id."""
        return self.vocabulary.words

    @property
    def key_to_index(self) -> dict[str, int]:
        """Word to id."""
        return self.vocabulary.index

    @property
    def counts(self) -> Array:
        """How often each word occurs, int64 [V]."""
        return self.vocabulary.counts

    @property
    def vectors(self) -> Array:
        """float32 [V, vector_size]: a writable view. Its rows need not be adjacent in memory."""
        return self._matrix("vectors")

    def _matrix(self, name: str) -> Array:
        """[rows, vector_size]. RuntimeError before build_vocab, AttributeError for others."""
        if name not in self.state.matrices:
            if not len(self):
                raise RuntimeError(
                    f"{self.state.model_name}: there are no vectors yet; call build_vocab first"
                )
            raise AttributeError(f"{self.state.model_name}: this model has no {name}")
        return self.state.columns(name)

    def get_index(self, key: Any, default: Any = None) -> int:
        """The id of a word; an id is itself. KeyError names what has none, unless `default`."""
        return self.state.row_of(key) if default is None else super().get_index(key, default)

    @property
    def wv(self) -> Any:
        """The words and current vectors as a gensim KeyedVectors, or without gensim as seqfast's
        class with the same names. It stays current, also if you took `.wv` before training.

        Changes through it (`wv["w"] = v`, `wv.vectors = X`, `wv.vectors_lockf[0] = 0`,
        `wv.add_vector`) change the model. It is empty before `build_vocab`. You may assign other
        KeyedVectors: the model takes their words and vectors, and initialises everything else.
        """
        if self._wv is None:
            self._wv = vectors_of_model(self.state)
        return self._wv

    @wv.setter
    def wv(self, other: Any) -> None:
        words = list(other.index_to_key)
        counts = getattr(other, "counts", None)
        if counts is None:
            counts = getattr(other, "expandos", {}).get("count")
        counts = np.ones(len(words), np.int64) if counts is None else np.array(counts, np.int64)
        vocabulary = Vocabulary(words, counts, raw_words=int(counts.sum()), raw_types=len(words))
        size = int(np.shape(other.vectors)[1])
        settings = dataclasses.replace(self.state.settings, vector_size=size)
        self.state.settings = settings
        self.state.set_vocabulary(vocabulary, False, other)
        self.state.corpus = None

    def to_embedding(self, freeze: bool = True) -> torch.nn.Embedding:
        """A torch.nn.Embedding with a copy of the vectors, whose indices are ids.

        `freeze`: its weight takes no gradient. Raises ImportError without torch.
        """
        import torch

        weight = torch.from_numpy(np.array(self.vectors))
        embedding: torch.nn.Embedding = torch.nn.Embedding.from_pretrained(weight, freeze=freeze)
        return embedding

    @property
    def running_training_loss(self) -> float:
        """The loss of the latest call of `train` so far. If a callback sets it to 0, it is the loss
        since then.
        """
        run = self.state.run
        total = self.state.latest_loss if run is None else run.total_loss
        return total - self.state.loss_set_aside

    @running_training_loss.setter
    def running_training_loss(self, value: float) -> None:
        self.state.loss_set_aside += self.running_training_loss - value

    def get_latest_training_loss(self) -> float:
        """`running_training_loss`: unless set, the sum over the epochs of the latest call."""
        return self.running_training_loss

    # ---- vocabulary ----

    def build_vocab(
        self,
        corpus: Source | None = None,
        corpus_file: Source | None = None,
        update: bool = False,
        progress_per: int | None = None,
        keep_raw_vocab: bool = False,
        trim_rule: TrimRule | None = None,
        *,
        sentences: Source | None = None,
        corpus_iterable: Source | None = None,
        words: list[str] | None = None,
    ) -> None:
        """Reads a corpus, makes its vocabulary and first vectors, and keeps the text for `train`.

        A second vocabulary replaces the first one and its vectors, unless `update` is True: then
        the known words keep their ids and vectors, new words with at least `min_count` follow them,
        and counts are added up. With `hs` a new tree is made, and its nodes start at zero. An
        unfinished run can no longer be resumed after this.

        `corpus` and `words` as for the class; `progress_per` and `keep_raw_vocab` have no effect.
        Raises the errors of the class; RuntimeError for an update without a vocabulary.
        """
        settings = self.state.settings
        source = self._one_source(
            corpus, sentences=sentences, corpus_iterable=corpus_iterable, corpus_file=corpus_file
        )
        if source is None:
            raise TypeError("build_vocab: corpus must be given, got None")
        self._check()
        self._check_update(update)
        with reading_bar(self.state.runtime.shows_progress()) as bar:
            vocabulary, text = read(
                source,
                min_count=settings.min_count,
                max_vocab_size=settings.max_vocab_size,
                max_final_vocab=settings.max_final_vocab,
                trim_rule=trim_rule if trim_rule is not None else self.trim_rule,
                words=words,
                known=self.vocabulary if update else None,
                progress=bar,
                decoding=self.state.runtime.decoding(),
                **self.state.runtime.reading(),
            )
        if not len(vocabulary):
            found = "corpus must have words, got an empty one"
            if vocabulary.raw_words:
                found = (
                    f"min_count must leave some words, got {vocabulary.min_count} for a corpus of "
                    f"{vocabulary.raw_words} words, {vocabulary.raw_types} of them different"
                )
            raise EmptyVocabulary(f"{self.state.model_name}: {found}")
        self.state.set_vocabulary(vocabulary, update, self.initial_vectors)
        LOGGER.info(
            "%s: %d words of %d different ones, read from %d words in %d sentences",
            self.state.model_name,
            len(vocabulary),
            vocabulary.raw_types,
            vocabulary.raw_words,
            vocabulary.raw_sentences,
        )
        self.state.corpus = text
        self.corpus_count = vocabulary.raw_sentences
        self.corpus_total_words = vocabulary.raw_words

    def build_vocab_from_freq(
        self,
        word_freq: Mapping[str, int],
        keep_raw_vocab: bool = False,
        corpus_count: int | None = None,
        trim_rule: TrimRule | None = None,
        update: bool = False,
    ) -> None:
        """`build_vocab` from counted words; `train` then needs a corpus."""
        self._check()
        self._check_update(update)
        counts = np.array(
            [self._checked_count(word, number) for word, number in word_freq.items()], np.int64
        )
        counted = Vocabulary(list(word_freq), counts, raw_words=int(counts.sum()))
        rule = trim_rule if trim_rule is not None else self.trim_rule
        known = self.vocabulary if update else None
        settings = self.state.settings
        selection = VocabularySelection(settings.min_count, settings.max_final_vocab, rule, known)
        vocabulary = selection.of_counted(counted)
        if not len(vocabulary):
            raise ValueError(
                f"{self.state.model_name}: min_count must leave some words, got "
                f"{vocabulary.min_count} for "
                f"{len(word_freq)} words"
            )
        self.state.set_vocabulary(vocabulary, update, self.initial_vectors)
        self.state.corpus = None
        self.corpus_count = int(corpus_count or 0)
        self.corpus_total_words = vocabulary.raw_words

    def _check_update(self, update: bool) -> None:
        if update and not len(self):
            raise RuntimeError(
                f"{self.state.model_name}: update needs a vocabulary; build one first"
            )

    def _checked_count(self, word: Any, number: Any) -> int:
        name = self.state.model_name
        if not isinstance(word, str):
            raise TypeError(f"{name}: words of word_freq must be str, got {word!r}")
        return check_whole(name, f"the count of {word!r}", number, 0)

    def _one_source(self, corpus: Source | None, **others: Source | None) -> Source | None:
        given = {"corpus": corpus, **others}
        names = [name for name, value in given.items() if value is not None]
        if len(names) > 1:
            raise TypeError(
                f"{self.state.model_name}: a corpus must be given once, got {' and '.join(names)}"
            )
        return given[names[0]] if names else None

    def set_vectors(self, vectors: Any) -> int:
        """Replaces the vectors of the words that `vectors` has, and returns their number.

        `vectors`: a mapping of words to vectors, a gensim KeyedVectors or a model. Raises
        ValueError for vectors of another size, and for infinite ones and NaN.
        """
        return len(self.state.take_vectors(vectors))

    def intersect_word2vec_format(
        self,
        fname: PathLike,
        lockf: float = 0.0,
        binary: bool = False,
        encoding: str = "utf8",
        unicode_errors: str = "strict",
    ) -> int:
        """Copies vectors from a file in word2vec's format, for the words that both have.

        `lockf` 0 locks those rows, so that training does not change them; 1 does not. Returns their
        number. Raises OSError, and ValueError for a damaged file or another size.
        """
        return self.state.intersect(fname, lockf, binary, encoding, unicode_errors)

    # ---- training ----

    def _begin_with(self, source: Source, words: list[str] | None) -> None:
        """What a constructor does with a corpus: reads it and trains."""
        if self.checkpoint is not None and not self.distributed:
            check_writable(self.checkpoint)
        self.build_vocab(source, words=words)
        try:
            self.train()
        except KeyboardInterrupt as error:
            raise Interrupted(self) from error

    @abc.abstractmethod
    def train(self, *, resume: bool = False) -> Any:
        """Trains on the corpus read last, or continues an unfinished run."""

    def _training_corpus(self, source: Source | None, words: list[str] | None) -> Corpus:
        """The corpus to train on; it takes the place of the one before when all else is checked."""
        corpus, name = self.state.corpus, self.state.model_name
        runtime = self.state.runtime
        if source is not None:
            with reading_bar(runtime.shows_progress()) as bar:
                corpus = encode(
                    source,
                    self.vocabulary,
                    words=words,
                    progress=bar,
                    decoding=runtime.decoding(),
                    **runtime.reading(),
                )
        if corpus is None:
            raise ValueError(f"{name}: corpus must be given, got None, and none was read before")
        if not len(corpus.ids):
            raise ValueError(
                f"{name}: corpus must have words of the vocabulary, got none among "
                f"{corpus.raw_words} words"
            )
        return corpus

    def _carry_out(
        self, run: Run, corpus: Corpus, listeners: list[Any], train: Callable[..., None]
    ) -> tuple[int, int]:
        """Has `train` do what is left of a run, with all that goes on around it.

        Returns how many (effective, raw) words that were.
        """
        group = self._join_group()
        leads = group is None or group.rank == 0
        checkpoints = None
        if self.checkpoint is not None and leads:
            check_writable(self.checkpoint)
            checkpoints = Checkpoints(self.checkpoint, self.checkpoint_every, self.save)
        bar = ProgressBar() if self.state.runtime.shows_progress() else None
        shown: list[Any] = [] if bar is None else [bar]
        tell = functools.partial(notify, [*shown, Log(), *listeners], self)
        self.state.begin(run, corpus)
        before = run.effective_words, run.words
        start = time.perf_counter()
        try:
            train(self.state, corpus, run, tell, checkpoints, group)
        except FloatingPointError:
            self.state.run = None
            raise
        finally:
            self.state.train_seconds += time.perf_counter() - start
            if bar is not None:
                bar.close()
        return run.effective_words - before[0], run.words - before[1]

    def _join_group(self) -> Group | None:
        if not self.distributed:
            return None
        return Group(
            self.process_group,
            operation=self.state.model_name,
            device=self.device,
            tokens_per_period=self.state.settings.tokens_per_period,
        )

    def finish_run(self, corpus: Source, words: list[str] | None = None) -> None:
        """Continues the unfinished run of a loaded file, if it has one, to its end.

        `corpus` and `words` as for the class. Raises the errors of `train`, and ValueError for
        another corpus than that of the run.
        """
        text = self._training_corpus(corpus, words)
        self.state.check_same_corpus(text)
        self.state.corpus = text
        if self.state.run is not None:
            self.train(resume=True)

    # ---- files ----

    def save(self, path: Any, **gensims: Any) -> None:
        """Writes one safetensors file: words, counts, vectors, the other matrices, settings, an
        unfinished run, and checksums with which `load` detects damage. It does not contain the
        corpus, `trim_rule`, callbacks, device and workers. An existing file is replaced only when
        the new one is complete. `path` may be an open binary file. gensim's `separately`,
        `sep_limit`, `ignore` and `pickle_protocol` have no effect. Raises OSError.
        """
        known = {"separately", "sep_limit", "ignore", "pickle_protocol"}
        if unknown := sorted(gensims.keys() - known):
            raise TypeError(f"{self.state.model_name}: save has no argument {', '.join(unknown)}")
        if not len(self):
            raise RuntimeError(
                f"{self.state.model_name}: there is nothing to save; call build_vocab first"
            )
        if not hasattr(path, "write"):
            checkpoint.save(path, self.state)
            return
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / "model"
            checkpoint.save(whole, self.state)
            with open(whole, "rb") as file:
                shutil.copyfileobj(file, path)

    def save_word2vec_format(self, fname: PathLike, binary: bool = False, **options: Any) -> None:
        """Writes words and vectors for other programs, the frequent words first; arguments and
        errors as for `seqfast.embeddings.formats.save_word2vec_format`.
        """
        save_word2vec_format(
            fname, self.vectors, self.index_to_key, self.counts, binary=binary, **options
        )

    @classmethod
    def load(cls: type[M], path: Any, **runtime: Any) -> M:
        """Reads a file of `save` or a checkpoint; the model can be trained further.

        `runtime`: arguments of the class that the file does not contain, such as `workers`,
        `device`, `progress`, `callbacks`, `checkpoint`; `locked` if the file has no locks. Raises
        OSError, ValueError for another kind of file, and TypeError for arguments that the file
        contains and for a corpus.
        """
        if texts := sorted({"corpus", "sentences", "corpus_file", "words"} & runtime.keys()):
            raise TypeError(f"load: pass {', '.join(texts)} to train or resume instead")
        if hasattr(path, "read"):
            with tempfile.TemporaryDirectory() as folder:
                whole = Path(folder) / "model"
                with open(whole, "wb") as file:
                    shutil.copyfileobj(path, file)
                return cls.load(whole, **runtime)
        stored = safetensors.read(path, cls.state_class.file_kind)
        settings = checkpoint.settings_of(stored, cls.settings_class)
        carried = {*settings, "initial_vectors", *({"locked"} if "locked" in stored else ())}
        if double := sorted(carried & runtime.keys()):
            raise TypeError(
                f"{cls.state_class.model_name}: {', '.join(double)} must not be given: the file "
                f"{path} has it"
            )
        model = cls(**settings, **runtime)
        checkpoint.restore(model.state, stored)
        model.state.locked_rows()  # those of `runtime` are found out now, not when it trains
        return model

    @classmethod
    def resume(
        cls: type[M],
        path: PathLike,
        corpus: Source | None = None,
        *,
        sentences: Source | None = None,
        corpus_file: Source | None = None,
        words: list[str] | None = None,
        **runtime: Any,
    ) -> M:
        """Continues a run from its checkpoint, on the same corpus, to the planned end.

        Further checkpoints go to the same file unless `checkpoint` names another; `runtime` as for
        `load`. A finished run is not repeated. With `deterministic=True`, or with one worker, the
        result is bit for bit that of an uninterrupted run. Raises the errors of `load` and `train`,
        and ValueError for another corpus.
        """
        runtime.setdefault("checkpoint", path)
        model = cls.load(path, **runtime)
        source = model._one_source(corpus, sentences=sentences, corpus_file=corpus_file)
        if source is None:
            raise TypeError("resume: corpus must be given, got None")
        try:
            model.finish_run(source, words)
        except KeyboardInterrupt as error:
            raise Interrupted(model) from error
        return model
