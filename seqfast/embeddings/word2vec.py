"""Word2Vec: word vectors from text, with gensim's names, and word2vec.c's command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seqfast.embeddings import _checkpoint, _settings, _training
from seqfast.embeddings import callbacks as _callbacks
from seqfast.embeddings._corpus_sources import Source
from seqfast.embeddings._files import PathLike, check_writable
from seqfast.embeddings._training import Kernels, Run
from seqfast.embeddings.corpus import (
    Choice,
    Corpus,
    TrimRule,
    Vocabulary,
    encode,
    read,
)
from seqfast.embeddings.distributed import Group, own_device
from seqfast.embeddings.vectors import Queries
from seqfast.ops.word2vec import first_vectors
from seqfast.ops.word2vec.matrix import matrix

if TYPE_CHECKING:
    import torch
    from torch.distributed import ProcessGroup

__all__ = ["Interrupted", "Word2Vec"]

Array = npt.NDArray[Any]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while a constructor trained: `model` is the Word2Vec as far as it has come.

    `error.model.train(resume=True)` goes on, bit for bit where the training is deterministic.
    """

    def __init__(self, model: Word2Vec) -> None:
        super().__init__("interrupted; error.model.train(resume=True) goes on")
        self.model = model


class Word2Vec(Queries):
    """Word vectors of Mikolov et al. 2013, trained on a text, with gensim's names and meanings.

    `Word2Vec(corpus)` reads a corpus, builds its vocabulary and trains; `Word2Vec()` waits for
    `build_vocab` and `train`.

    `corpus` (`sentences` and `corpus_file` mean the same): a path or a list of paths, one sentence
    a line; an iterable of lists of words, which may be a generator, since it is read once; or
    `(ids, offsets)`, integers [tokens] and where sentences begin and end [sentences + 1], with
    `words` as their names. See `seqfast.embeddings.corpus.read`, also for `cache_folder` and
    `memory_limit`.

    As in gensim: `vector_size`, `alpha`, `window`, `min_count`, `max_vocab_size`,
    `max_final_vocab`, `trim_rule`, `sample`, `seed`, `min_alpha`, `hs`, `negative`, `ns_exponent`,
    `cbow_mean`, `epochs`, `shrink_windows`, `comment`. Other than there:

    - `sg` is 1, skip-gram, unless told otherwise.
    - `shared_negatives`: the contexts of a window share its negatives, which is what makes it fast;
      False draws them for each pair, as gensim and word2vec.c do.
    - CBOW with `cbow_mean` divides the gradient, too, by the number of contexts, as the derivative
      does, and learns best at larger rates: `alpha` None is 0.1 there, 0.025 elsewhere.
      `legacy_cbow=True` does not divide, as word2vec.c and gensim; its rate is 0.025.
    - `negative=0, hs=0` is the full softmax, for small vocabularies.
    - `workers`: threads; None for as many as other operations take.
    - `deterministic=True`: the result is the same, bit for bit, for any number of workers; without
      it only one worker repeats itself. `PYTHONHASHSEED` plays no part. Its batches are 32 words
      long, so a vocabulary of a few dozen words wants a smaller `alpha`.
    - Sentences have any length: gensim cuts them at 10,000 words.
    - The loss is always computed, exactly, so `compute_loss` says nothing; `batch_words` does not
      either. Asking for something by `hashfxn`, `null_word` or `sorted_vocab` is an error.
    - `callbacks` (see `seqfast.embeddings.callbacks`; gensim's do, too) are kept for later calls of
      `train`.

    And beyond gensim: `device` is "cpu", "cuda" or "cuda:1"; `locked` names rows that stay as they
    are: words, ids, or a bool array [V]; `initial_vectors` gives vectors to begin with: a mapping
    of words to vectors, a gensim KeyedVectors or another Word2Vec. `progress=False` is quiet.
    `checkpoint` is a file that is replaced every `checkpoint_every` seconds, or with "epoch" after
    each epoch, and at the end; `Word2Vec.resume` goes on from it. `distributed=True` (or a
    `process_group`) shares the work with the processes torchrun has started, which bring their
    changes together every `tokens_per_period`: see `seqfast.embeddings.distributed`.

    Raises TypeError and ValueError for arguments that cannot be, an empty corpus and a vocabulary
    that `min_count` leaves nothing of; OSError where files cannot be read, or `checkpoint` cannot
    be written; FloatingPointError where the loss becomes infinite or NaN; Interrupted at Ctrl-C.
    """

    def __init__(
        self,
        corpus: Source | None = None,
        *,
        sentences: Source | None = None,
        corpus_file: Source | None = None,
        words: list[str] | None = None,
        vector_size: int = 100,
        alpha: float | None = None,
        window: int = 5,
        min_count: int = 5,
        max_vocab_size: int | None = None,
        sample: float = 1e-3,
        seed: int = 1,
        workers: int | None = None,
        min_alpha: float = 1e-4,
        sg: int = 1,
        hs: int = 0,
        negative: int = 5,
        ns_exponent: float = 0.75,
        cbow_mean: int = 1,
        shared_negatives: bool = True,
        legacy_cbow: bool = False,
        epochs: int = 5,
        trim_rule: TrimRule | None = None,
        max_final_vocab: int | None = None,
        shrink_windows: bool = True,
        deterministic: bool = False,
        device: str | torch.device = "cpu",
        locked: Any = None,
        initial_vectors: Any = None,
        checkpoint: PathLike | None = None,
        checkpoint_every: float | str = 600.0,
        distributed: bool = False,
        process_group: ProcessGroup | None = None,
        tokens_per_period: int | None = None,
        cache_folder: PathLike | None = None,
        memory_limit: int | None = None,
        progress: bool = True,
        callbacks: Any = (),
        comment: str | None = None,
        compute_loss: bool = False,
        batch_words: int | None = None,
        sorted_vocab: int = 1,
        hashfxn: Any = None,
        null_word: int = 0,
    ) -> None:
        _settings.check_unused(sorted_vocab, batch_words, hashfxn, null_word)
        self.vector_size = vector_size
        if alpha is None:
            alpha = 0.025 if sg or legacy_cbow or not cbow_mean else 0.1
        self.alpha = alpha
        self.window = window
        self.min_count = min_count
        self.max_vocab_size = max_vocab_size
        self.sample = sample
        self.seed = seed
        self.workers = workers
        self.min_alpha = min_alpha
        self.sg = sg
        self.hs = hs
        self.negative = negative
        self.ns_exponent = ns_exponent
        self.cbow_mean = cbow_mean
        self.shared_negatives = shared_negatives
        self.legacy_cbow = legacy_cbow
        self.epochs = epochs
        self.trim_rule = trim_rule
        self.max_final_vocab = max_final_vocab
        self.shrink_windows = shrink_windows
        self.deterministic = deterministic
        self.device = _settings.check_device(device)
        if distributed or process_group is not None:
            self.device = own_device(self.device)
        self.locked = locked
        self.initial_vectors = initial_vectors
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.distributed = bool(distributed) or process_group is not None
        self.process_group = process_group
        self.tokens_per_period = tokens_per_period
        self.cache_folder = cache_folder
        self.memory_limit = memory_limit
        self.progress = progress
        self.callbacks = _callbacks.check(callbacks)
        self.comment = comment
        self._check_settings()

        self.vocabulary = Vocabulary([], np.zeros(0, np.int64))
        """Words by falling count with their counts and index, and what reading the text found."""
        self.corpus_count = 0
        """Sentences read."""
        self.corpus_total_words = 0
        """Words read, in the vocabulary or not."""
        self.train_count = 0
        self._matrices: dict[str, Array] = {}  # float32 [V, stride]
        self._kernels: Kernels | None = None
        self._corpus: Corpus | None = None
        self._wv: Any = None
        self._forget_training()
        source = _one_source(corpus, sentences=sentences, corpus_file=corpus_file)
        if source is None:
            return
        if self.checkpoint is not None and not self.distributed:
            check_writable(self.checkpoint)
        self.build_vocab(source, words=words)
        try:
            self.train()
        except KeyboardInterrupt as error:
            raise Interrupted(self) from error

    def _check_settings(self) -> None:
        _settings.check(vars(self))

    def _forget_training(self) -> None:
        self.loss_per_epoch: list[float] = []
        """Of each epoch so far the loss summed over its examples, in nats."""
        self.mean_loss_per_epoch: list[float] = []
        """The same per example: a pair (skip-gram) or a window (CBOW)."""
        self.epochs_trained = 0
        self._run: Run | None = None
        self._trained_on: str | None = None  # the fingerprint of a corpus
        self._latest_loss = 0.0

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(vocab={len(self)}, vector_size={self.vector_size}, "
            f"alpha={self.alpha})"
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
        """float32 [V, vector_size]: a view, which may be written to. Rows need not be adjacent."""
        return self._matrix("vectors")

    @property
    def syn1neg(self) -> Array:
        """float32 [V, vector_size]: the words as what is predicted (with negatives, or softmax)."""
        return self._matrix("output")

    @property
    def syn1(self) -> Array:
        """float32 [max(V - 1, 1), vector_size]: the inner nodes of the Huffman tree (with `hs`)."""
        return self._matrix("nodes")

    def _matrix(self, name: str) -> Array:
        if name not in self._matrices:
            if not len(self):
                raise RuntimeError("Word2Vec: there are no vectors before build_vocab")
            raise AttributeError(
                f"Word2Vec: a model with hs={self.hs} and negative={self.negative} has no {name}"
            )
        if self._kernels is not None:
            self._kernels.fetch()
        array: Array = self._matrices[name][:, : self.vector_size]
        return array

    def __len__(self) -> int:
        return len(self.vocabulary)

    def __contains__(self, word: object) -> bool:
        return word in self.vocabulary.index

    def __iter__(self) -> Iterator[str]:
        return iter(self.vocabulary.words)

    def __getitem__(self, key: str | int | Iterable[str | int]) -> Array:
        """The vector of a word or id, [vector_size], or of several, [n, vector_size].

        Raises KeyError, which names the word, and IndexError.
        """
        rows: Any
        if isinstance(key, (str, int, np.integer)):
            rows = self.get_index(key)
        else:
            rows = [self.get_index(one) for one in key]
        found: Array = self.vectors[rows]
        return found

    def get_index(self, key: str | int) -> int:
        """The id of a word; an id is checked. Raises KeyError, which names the word, IndexError."""
        if isinstance(key, str):
            try:
                return self.vocabulary.index[key]
            except KeyError:
                raise KeyError(
                    f"Word2Vec: {key!r} is not in the vocabulary of {len(self)} words"
                ) from None
        if not isinstance(key, (int, np.integer)) or isinstance(key, bool):
            raise TypeError(f"Word2Vec: a word must be a str or an id, got {key!r}")
        if not 0 <= key < len(self):
            raise IndexError(f"Word2Vec: ids must be from 0 to {len(self) - 1}, got {key}")
        return int(key)

    def get_vector(self, key: str | int, norm: bool = False) -> Array:
        """A word's vector, with `norm` divided by its length. Raises as `model[key]`."""
        vector: Array = self.vectors[self.get_index(key)]
        length = np.linalg.norm(vector)
        return vector / length if norm and length else vector

    @property
    def wv(self) -> Any:
        """A gensim KeyedVectors of these words, counts and vectors, sharing their memory.

        The same object until the vocabulary changes. Raises ImportError without gensim.
        """
        from seqfast.embeddings import formats

        if self._wv is None:
            self._wv = formats.to_gensim(self.vectors, self.index_to_key, self.counts)
        self._wv.vectors = self.vectors
        self._wv.norms = None  # training may have changed the vectors
        return self._wv

    def to_embedding(self, freeze: bool = True) -> torch.nn.Embedding:
        """A torch.nn.Embedding with a copy of the vectors, whose indices are ids.

        `freeze`: its weight takes no gradient. Raises ImportError without torch.
        """
        import torch

        weight = torch.from_numpy(np.array(self.vectors))
        embedding: torch.nn.Embedding = torch.nn.Embedding.from_pretrained(weight, freeze=freeze)
        return embedding

    def get_latest_training_loss(self) -> float:
        """The sum of the losses of the latest call of `train`, over its epochs as far as it is."""
        return self._run.total_loss if self._run is not None else self._latest_loss

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

        A second vocabulary replaces the first, and its vectors, unless `update`: then words that
        are new and not rare in this corpus follow those that are there, which keep their ids and
        vectors, and counts are added up. With `hs` the tree is made anew, so its nodes begin at
        zero again. An unfinished run can then no longer be resumed.

        `corpus` and `words` as of the class; `progress_per` and `keep_raw_vocab` say nothing.
        Raises as the class; RuntimeError for an update of nothing.
        """
        source = _one_source(
            corpus, sentences=sentences, corpus_iterable=corpus_iterable, corpus_file=corpus_file
        )
        if source is None:
            raise TypeError("build_vocab: corpus must be given, got None")
        self._check_settings()
        self._check_update(update)
        with _callbacks.reading_bar(self._shows()) as bar:
            vocabulary, text = read(
                source,
                min_count=self.min_count,
                max_vocab_size=self.max_vocab_size,
                max_final_vocab=self.max_final_vocab,
                trim_rule=trim_rule if trim_rule is not None else self.trim_rule,
                words=words,
                known=self.vocabulary if update else None,
                progress=bar,
                **self._reading(),
            )
        if not len(vocabulary):
            raise ValueError(
                "Word2Vec: corpus must have words, got an empty one"
                if not vocabulary.raw_words
                else f"Word2Vec: min_count must leave some words, got {vocabulary.min_count} for a "
                f"corpus of {vocabulary.raw_words} words, {vocabulary.raw_types} of them different"
            )
        self._set_vocabulary(vocabulary, update)
        self._corpus = text
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
        """As `build_vocab` with words that were counted before; `train` then needs a corpus."""
        self._check_settings()
        self._check_update(update)
        counts = np.array([_count(word, number) for word, number in word_freq.items()], np.int64)
        counted = Vocabulary(list(word_freq), counts, raw_words=int(counts.sum()))
        rule = trim_rule if trim_rule is not None else self.trim_rule
        known = self.vocabulary if update else None
        vocabulary = Choice(self.min_count, self.max_final_vocab, rule, known).of_counted(counted)
        if not len(vocabulary):
            raise ValueError(
                f"Word2Vec: min_count must leave some words, got {vocabulary.min_count} for "
                f"{len(word_freq)} words"
            )
        self._set_vocabulary(vocabulary, update)
        self._corpus = None
        self.corpus_count = int(corpus_count or 0)
        self.corpus_total_words = vocabulary.raw_words

    def _shows(self) -> bool:
        """Whether this process has the bar."""
        return bool(self.progress) and not (self.distributed and os.environ.get("RANK", "0") != "0")

    def _check_update(self, update: bool) -> None:
        if update and not len(self):
            raise RuntimeError("Word2Vec: update needs a vocabulary, build one first")

    def _reading(self) -> dict[str, Any]:
        return {
            "workers": self.workers,
            "cache_folder": self.cache_folder,
            "memory_limit": self.memory_limit,
        }

    def _set_vocabulary(self, vocabulary: Vocabulary, update: bool) -> None:
        """Matrices for a vocabulary, of which the first words are known if `update`."""
        known = len(self) if update else 0
        matrices = self._new_matrices(len(vocabulary))
        vectors = matrices["vectors"][:, : self.vector_size]
        if known:
            # A new tree has new nodes: what the old ones have learnt is of no use to it.
            for name in matrices.keys() & self._matrices.keys() - {"nodes"}:
                matrices[name][:known] = self._matrices[name]
            locked = self._locked_rows()
            if locked is not None:
                locked = np.concatenate([locked, np.zeros(len(vocabulary) - known, np.uint8)])
                self.locked = locked.astype(bool)
        else:
            self._forget_training()
        first_vectors(vectors[known:], self.seed, known, threads=self.workers)
        if self.initial_vectors is not None:
            _take_vectors(vectors, vocabulary, self.initial_vectors, known)
        self.vocabulary, self._matrices = vocabulary, matrices
        self._run, self._wv = None, None

    def _new_matrices(self, words: int) -> dict[str, Array]:
        matrices = {"vectors": matrix(words, self.vector_size)}
        if self.negative or not self.hs:
            matrices["output"] = matrix(words, self.vector_size)
        if self.hs:
            matrices["nodes"] = matrix(max(words - 1, 1), self.vector_size)
        return matrices

    def set_vectors(self, vectors: Any) -> int:
        """Replaces the vectors of those words that `vectors` has, and says how many they are.

        `vectors`: a mapping of words to vectors, a gensim KeyedVectors or a Word2Vec. Raises
        ValueError for vectors of another size, and for infinite ones and NaN.
        """
        return len(_take_vectors(self.vectors, self.vocabulary, vectors, 0))

    def intersect_word2vec_format(
        self,
        fname: PathLike,
        lockf: float = 0.0,
        binary: bool = False,
        encoding: str = "utf8",
        unicode_errors: str = "strict",
    ) -> int:
        """Takes over the vectors of a file in word2vec's format, for the words both have.

        `lockf` 0 locks those rows, so that training leaves them alone; 1 lets them go on. Returns
        how many they are. Raises OSError, and ValueError for a damaged file or another size.
        """
        from seqfast.embeddings import formats

        if lockf not in (0, 1):
            raise ValueError(f"Word2Vec: lockf must be 0 or 1, got {lockf!r}")
        words, vectors, _ = formats.load_word2vec_format(
            fname, binary=binary, encoding=encoding, unicode_errors=unicode_errors
        )
        rows = _take_vectors(
            self.vectors, self.vocabulary, dict(zip(words, vectors, strict=True)), 0
        )
        locked = self._locked_rows()
        mask = np.zeros(len(self), bool) if locked is None else locked.astype(bool)
        mask[rows] = not lockf
        self.locked = mask
        return len(rows)

    def _locked_rows(self) -> Array | None:
        """`locked` as uint8 [V]."""
        if self.locked is None:
            return None
        if isinstance(self.locked, (str, bytes)) or not isinstance(self.locked, Iterable):
            raise TypeError(
                f"Word2Vec: locked must be words, ids or a bool array, got {self.locked!r}"
            )
        if isinstance(self.locked, Iterator):
            self.locked = list(self.locked)  # it is asked for more than once
        rows = np.zeros(len(self), np.uint8)
        listed = self.locked if isinstance(self.locked, np.ndarray) else list(self.locked)
        if isinstance(listed, np.ndarray) and listed.dtype == np.bool_:
            if listed.shape != rows.shape:
                raise ValueError(
                    f"Word2Vec: locked must be [{len(self)}], got {list(listed.shape)}"
                )
            rows[listed] = 1
        else:
            rows[[self.get_index(key) for key in listed]] = 1
        return rows

    # ---- training ----

    def train(
        self,
        corpus: Source | None = None,
        corpus_file: Source | None = None,
        total_examples: int | None = None,
        total_words: int | None = None,
        epochs: int | None = None,
        start_alpha: float | None = None,
        end_alpha: float | None = None,
        word_count: int = 0,
        queue_factor: int = 2,
        report_delay: float = 1.0,
        compute_loss: bool | None = None,
        callbacks: Any = None,
        *,
        sentences: Source | None = None,
        corpus_iterable: Source | None = None,
        words: list[str] | None = None,
        resume: bool = False,
    ) -> tuple[int, int]:
        """Trains for some epochs (None: `self.epochs`) and returns (effective, raw) words.

        `corpus` None is the one that was read last; another one is encoded with the vocabulary as
        it is. `start_alpha` and `end_alpha` hold for this call in place of `alpha` and `min_alpha`.
        `callbacks` None are those of the class. `resume=True` goes on with the run that Ctrl-C or
        an error has ended, on the same corpus, to the end that was planned. gensim's other
        arguments say nothing: the size of the corpus is known.

        After KeyboardInterrupt, or what a callback raises, the model can be used, saved and
        resumed. Raises RuntimeError without a vocabulary, or nothing to resume; ValueError for a
        corpus without a word of the vocabulary, and for another corpus than that of the run to be
        resumed; FloatingPointError where the loss becomes infinite or NaN: that run cannot be
        resumed, but a checkpoint from before can.
        """
        if not len(self):
            raise RuntimeError("Word2Vec: train needs a vocabulary, call build_vocab first")
        if self._kernels is not None:
            raise RuntimeError("Word2Vec: train was called while it runs")
        if word_count:
            raise ValueError(
                f"Word2Vec: word_count must be 0, got {word_count!r}; resume=True goes on"
            )
        self._check_settings()
        source = _one_source(
            corpus, sentences=sentences, corpus_iterable=corpus_iterable, corpus_file=corpus_file
        )
        listeners = self.callbacks if callbacks is None else _callbacks.check(callbacks)
        if resume and (epochs, start_alpha, end_alpha) != (None, None, None):
            raise ValueError("Word2Vec: resume goes on as planned, without epochs and alphas")
        if resume and self._run is None:
            raise RuntimeError("Word2Vec: there is no unfinished run to resume")
        self._locked_rows()  # raises while the text is unread and an unfinished run is still there
        text = self._text(source, words)
        if self._run is not None and resume:
            self._check_same_text(text)
            run = self._run
        else:
            run = self._new_run(text, epochs, start_alpha, end_alpha)
        group = self._group()
        leads = group is None or group.rank == 0
        checkpoints = None
        if self.checkpoint is not None and leads:
            check_writable(self.checkpoint)
            checkpoints = _checkpoint.Checkpoints(self.checkpoint, self.checkpoint_every)
        bar = _callbacks.Bar() if self._shows() else None
        self._corpus, self._run, self._trained_on = text, run, text.fingerprint
        if not resume:
            self.epochs_trained = run.first_epoch
        before = run.effective_words, run.words
        try:
            _training.train(
                self, text, run, [bar, *listeners] if bar else listeners, checkpoints, group
            )
        except FloatingPointError:
            self._run = None
            raise
        finally:
            if bar is not None:
                bar.close()
        return run.effective_words - before[0], run.words - before[1]

    def _text(self, source: Source | None, words: list[str] | None) -> Corpus:
        """The corpus to train on; it takes the place of the one before when all else is checked."""
        text = self._corpus
        if source is not None:
            with _callbacks.reading_bar(self._shows()) as bar:
                text = encode(source, self.vocabulary, words=words, progress=bar, **self._reading())
        if text is None:
            raise ValueError("Word2Vec: corpus must be given, got None, and none was read before")
        if not len(text.ids):
            raise ValueError(
                "Word2Vec: corpus must have words of the vocabulary, got none among "
                f"{text.raw_words} words"
            )
        return text

    def _new_run(
        self, text: Corpus, epochs: Any, start_alpha: float | None, end_alpha: float | None
    ) -> Run:
        epochs = self.epochs if epochs is None else epochs
        _settings.check({**vars(self), "epochs": epochs})
        alpha = self.alpha if start_alpha is None else start_alpha
        min_alpha = self.min_alpha if end_alpha is None else end_alpha
        _settings.check_rate("start_alpha", alpha)
        _settings.check_rate("end_alpha", min_alpha)
        # The random numbers of an epoch given up are used.
        given_up = self._run is not None and self._run.next_round > 0
        return Run(
            epochs=int(epochs),
            alpha=float(alpha),
            min_alpha=float(min_alpha),
            first_epoch=self.epochs_trained + given_up,
            tokens=len(text.ids),
            raw_words=text.raw_words,
            fingerprint=text.fingerprint,
        )

    def _check_same_text(self, text: Corpus) -> None:
        if text.fingerprint != self._trained_on:
            raise ValueError(
                "Word2Vec: corpus must be the one that the run began with, fingerprint "
                f"{self._trained_on}, got {text.fingerprint}"
            )

    def _group(self) -> Any:
        if not self.distributed:
            return None
        return Group(
            self.process_group, device=self.device, tokens_per_period=self.tokens_per_period
        )

    def _end_epoch(self, run: Run) -> None:
        self.loss_per_epoch.append(run.loss)
        self.mean_loss_per_epoch.append(run.loss / run.examples if run.examples else 0.0)
        self.epochs_trained += 1
        run.end_epoch()

    def _end_run(self, run: Run) -> None:
        self._latest_loss = run.total_loss
        self._run = None
        self.train_count += 1

    # ---- files ----

    def save(self, path: PathLike) -> None:
        """Writes everything to one safetensors file, whole or not at all: words, counts, vectors,
        the other matrices, settings, an unfinished run, and sums by which `load` finds damage. What
        is no part of the result is left out: the corpus, `trim_rule`, callbacks, device and
        workers. Raises OSError.
        """
        if not len(self):
            raise RuntimeError("Word2Vec: there is nothing to save before build_vocab")
        if self._kernels is not None:
            self._kernels.fetch()
        _checkpoint.write(path, *_checkpoint.contents(self))

    def save_word2vec_format(self, fname: PathLike, binary: bool = False, **options: Any) -> None:
        """Writes words and vectors for other programs, the frequent words first; arguments and
        errors as of `seqfast.embeddings.formats.save_word2vec_format`.
        """
        from seqfast.embeddings import formats

        formats.save_word2vec_format(
            fname, self.vectors, self.index_to_key, self.counts, binary=binary, **options
        )

    @classmethod
    def load(cls, path: PathLike, **runtime: Any) -> Word2Vec:
        """Reads what `save` or a checkpoint wrote; the model can be trained on.

        `runtime`: arguments of the class that a file does not carry, such as `workers`, `device`,
        `progress`, `callbacks`, `checkpoint`; `locked` where the file has no locks. Raises OSError,
        ValueError for what is no such file, TypeError for what the file carries, and for a corpus.
        """
        if texts := sorted({"corpus", "sentences", "corpus_file", "words"} & runtime.keys()):
            raise TypeError(f"load: {', '.join(texts)} must be left to train or resume")
        stored = _checkpoint.read(path)
        settings = _checkpoint.settings_of(stored, vars(Word2Vec()))
        carried = {*settings, "initial_vectors", *({"locked"} if "locked" in stored else ())}
        if double := sorted(carried & runtime.keys()):
            raise TypeError(f"Word2Vec: {', '.join(double)} must be left to the file {path}")
        model = cls(**settings, **runtime)
        _checkpoint.restore(model, stored)
        model._locked_rows()  # those of `runtime` are found out now, not when it trains
        return model

    @classmethod
    def resume(
        cls,
        path: PathLike,
        corpus: Source | None = None,
        *,
        sentences: Source | None = None,
        corpus_file: Source | None = None,
        words: list[str] | None = None,
        **runtime: Any,
    ) -> Word2Vec:
        """Goes on from a checkpoint, with the corpus it was training on, to the end planned.

        Further checkpoints go to the same file unless `checkpoint` says otherwise; `runtime` is as
        of `load`. A run that is finished is not gone over again. With `deterministic=True`, or with
        one worker, the result is bit for bit that of a run without an interruption. Raises as
        `load` and `train`, ValueError for another corpus.
        """
        runtime.setdefault("checkpoint", path)
        model = cls.load(path, **runtime)
        source = _one_source(corpus, sentences=sentences, corpus_file=corpus_file)
        if source is None:
            raise TypeError("resume: corpus must be given, got None")
        try:
            model._go_on(source, words)
        except KeyboardInterrupt as error:
            raise Interrupted(model) from error
        return model

    def _go_on(self, source: Source, words: list[str] | None = None) -> None:
        """What is left to do of a loaded model, if anything."""
        text = self._text(source, words)
        self._check_same_text(text)
        self._corpus = text
        if self._run is not None:
            self.train(resume=True)


def _one_source(corpus: Source | None, **others: Source | None) -> Source | None:
    given = {"corpus": corpus, **others}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise TypeError(f"Word2Vec: a corpus must be given once, got {' and '.join(names)}")
    return given[names[0]] if names else None


def _count(word: Any, number: Any) -> int:
    if not isinstance(word, str):
        raise TypeError(f"Word2Vec: words of word_freq must be str, got {word!r}")
    if not isinstance(number, (int, np.integer)) or isinstance(number, bool) or number < 0:
        raise ValueError(f"Word2Vec: the count of {word!r} must be an int >= 0, got {number!r}")
    return int(number)


def _take_vectors(vectors: Array, vocabulary: Vocabulary, source: Any, first_row: int) -> list[int]:
    """Copies the vectors of the words that both have, from row `first_row` on: returns the rows."""
    if hasattr(source, "key_to_index") and hasattr(source, "vectors"):
        index, table = source.key_to_index, source.vectors
    elif isinstance(source, Mapping):
        index, table = {word: word for word in source}, source
    else:
        raise TypeError(
            "Word2Vec: initial vectors must be a mapping of words to vectors, KeyedVectors or a "
            f"Word2Vec, got {type(source).__name__}"
        )
    taken = []
    for row in range(first_row, len(vocabulary)):
        word = vocabulary.words[row]
        if word not in index:
            continue
        vector = np.asarray(table[index[word]], np.float32)
        if vector.shape != vectors.shape[1:]:
            raise ValueError(
                f"Word2Vec: the vector of {word!r} must be [{vectors.shape[1]}], got "
                f"{list(vector.shape)}"
            )
        if not np.isfinite(vector).all():
            raise ValueError(f"Word2Vec: the vector of {word!r} must be finite")
        vectors[row] = vector
        taken.append(row)
    return taken


if __name__ == "__main__":
    from seqfast.embeddings._command_line import main

    sys.exit(main(sys.argv[1:]))
