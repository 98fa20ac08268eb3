"""Word2Vec: word vectors from text, with gensim's names."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seqfast.embeddings.base.checks import check_device
from seqfast.embeddings.base.model import Delegated, WordVectorModel
from seqfast.embeddings.base.run import Run
from seqfast.embeddings.base.runtime import Runtime
from seqfast.embeddings.callbacks import LOGGER, checked_callbacks
from seqfast.embeddings.corpus.selection import TrimRule
from seqfast.embeddings.corpus.sources import Source
from seqfast.embeddings.corpus.vocabulary import Corpus, Vocabulary
from seqfast.embeddings.distributed import own_device
from seqfast.embeddings.files import PathLike
from seqfast.embeddings.formats.gensim import begins_as_pickle, unpickled
from seqfast.embeddings.word2vec import training
from seqfast.embeddings.word2vec.from_gensim import restore_from_gensim, settings_of_gensim
from seqfast.embeddings.word2vec.likelihood import predict_output_word, score
from seqfast.embeddings.word2vec.settings import (
    OPERATION,
    Settings,
    cbow_step_of,
    check_few_words,
    check_unused,
)
from seqfast.embeddings.word2vec.state import Word2VecState
from seqfast.embeddings.word2vec.training import noise_weights
from seqfast.ops.base.checks import NOT_NEGATIVE, check_choice, check_number
from seqfast.ops.word2vec.matrix import stride_of

if TYPE_CHECKING:
    import torch
    from torch.distributed import ProcessGroup

Array = npt.NDArray[Any]


class Word2Vec(WordVectorModel):
    """Word vectors of Mikolov et al. 2013, trained on a text, with gensim's arguments.

    One default differs from gensim's: `sg=1`, skip-gram. For CBOW, gensim's default, pass `sg=0`.

    `Word2Vec(corpus)` reads a corpus, builds its vocabulary and trains. After `Word2Vec()` call
    `build_vocab` and `train`.

    `corpus` (or `sentences`, or `corpus_file`): a path or a list of paths, one sentence per line;
    an iterable of lists of words, which is read once and may be a generator; or `(ids, offsets)`,
    integers [tokens] and the offsets where sentences begin and end, [sentences + 1], with `words`
    as the names of ids. See `seqfast.embeddings.corpus.read`, also for `cache_folder` and
    `memory_limit`.

    As in gensim: `vector_size`, `alpha`, `window`, `min_count`, `max_vocab_size`,
    `max_final_vocab`, `trim_rule`, `sample`, `seed`, `min_alpha`, `hs`, `negative`, `ns_exponent`,
    `cbow_mean`, `epochs`, `shrink_windows`, `comment`. Different from gensim:

    - `sg` is 1, skip-gram, by default.
    - `shared_negatives`: the contexts of a window share its negatives, which is faster. False draws
      them for each pair, as gensim and word2vec.c do.
    - CBOW (`cbow_mean`) gives each context the whole gradient, as word2vec.c and gensim do, and
      takes steps of 1.4 `alpha`, which give the quality of gensim's threads at the same `alpha`.
      `legacy_cbow=False` uses the exact gradient, which is divided by the number of contexts, and
      steps of 4 `alpha`; so does `deterministic=True`. `cbow_step` sets another factor.
    - `negative=0, hs=0` is the full softmax, for small vocabularies.
    - `workers`: threads; None: the same number as other operations.
    - `deterministic=True`: the result is the same, bit for bit, for any number of workers; without
      it results repeat only with one worker. `PYTHONHASHSEED` has no influence. Its batches are 32
      words long, so a vocabulary of a few dozen words needs a smaller `alpha`.
    - Sentences may have any length; gensim cuts them at 10,000 words.
    - The loss is always computed, exactly, so `compute_loss` has no effect; nor does `batch_words`.
      Values of `hashfxn`, `null_word` or `sorted_vocab` other than gensim's defaults are an error.
    - `callbacks` (see `seqfast.embeddings.callbacks`; gensim's work, too) are kept for later calls
      of `train`.

    Not in gensim: `device` is "cpu", "cuda" or "cuda:1". `locked` names rows that are not trained:
    words, ids, or a bool array [V]. `initial_vectors` are vectors to start from: a mapping of words
    to vectors, a gensim KeyedVectors or another Word2Vec. `progress=False` shows no progress.
    `checkpoint` is a file that is written every `checkpoint_every` seconds, or with "epoch" after
    each epoch, and at the end; `Word2Vec.resume` continues from it. `distributed=True` (or a
    `process_group`) shares the work with the processes that torchrun has started, which exchange
    their changes every `tokens_per_period` tokens: see `seqfast.embeddings.distributed`.

    Example:
        >>> import seqfast
        >>> text = [line.split() for line in ["the king rules", "the queen rules"] * 50]
        >>> options = {"vector_size": 8, "min_count": 1, "progress": False}
        >>> seqfast.Word2Vec(text, **options).vectors.shape
        (4, 8)
    """

    state_class = Word2VecState
    settings_class = Settings
    state: Word2VecState

    vector_size = Delegated[int]("settings")
    alpha = Delegated[float]("settings")
    window = Delegated[int]("settings")
    min_count = Delegated[int]("settings")
    max_vocab_size = Delegated[int | None]("settings")
    max_final_vocab = Delegated[int | None]("settings")
    sample = Delegated[float]("settings")
    seed = Delegated[int]("settings")
    min_alpha = Delegated[float]("settings")
    sg = Delegated[int]("settings")
    hs = Delegated[int]("settings")
    negative = Delegated[int]("settings")
    ns_exponent = Delegated[float]("settings")
    cbow_mean = Delegated[int]("settings")
    shared_negatives = Delegated[bool]("settings")
    legacy_cbow = Delegated[bool]("settings")
    epochs = Delegated[int]("settings")
    shrink_windows = Delegated[bool]("settings")
    deterministic = Delegated[bool]("settings")
    tokens_per_period = Delegated[int | None]("settings")
    comment = Delegated[str | None]("settings")
    cbow_step = Delegated[float]("settings")

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
        legacy_cbow: bool | None = None,
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
        encoding: str = "utf-8",
        errors: str | None = None,
        progress: bool = True,
        callbacks: Any = (),
        comment: str | None = None,
        compute_loss: bool = False,
        batch_words: int | None = None,
        sorted_vocab: int = 1,
        hashfxn: Any = None,
        null_word: int = 0,
        cbow_step: float | None = None,
    ) -> None:
        """Reads the corpus and trains; without one, call `build_vocab` and `train` later.

        Args:
            corpus: a path or paths, an iterable of lists of words, or `(ids, offsets)`.
            sentences: the same, by gensim's name.
            corpus_file: the same, by gensim's name.
            words: names of ids.
            vector_size: features of a vector.
            alpha: the learning rate at the start. None: the default.
            window: words on each side, at most.
            min_count: rarer words are left out.
            max_vocab_size: limit of words that are counted at a time.
            sample: of subsampling; 0 keeps all words.
            seed: of all draws.
            workers: threads; None: the same number as other operations.
            min_alpha: the learning rate at the end.
            sg: 1 for skip-gram, 0 for CBOW.
            hs: 1 for hierarchical softmax.
            negative: negatives for each centre; 0 for none.
            ns_exponent: negatives are drawn by counts to this power.
            cbow_mean: 1 for the mean of the contexts, 0 for their sum.
            shared_negatives: the contexts of a window share its negatives.
            legacy_cbow: each context gets the whole gradient, as in word2vec.c and gensim.
            epochs: passes over the corpus.
            trim_rule: `trim_rule(word, count, min_count)` decides which words are kept, as in
                gensim.
            max_final_vocab: largest size of the vocabulary.
            shrink_windows: a window is drawn from 1 to `window`.
            deterministic: the same bits for any number of workers.
            device: "cpu", "cuda" or "cuda:1".
            locked: rows that are not trained: words, ids, or a bool array [V].
            initial_vectors: a mapping of words to vectors, a KeyedVectors or another model.
            checkpoint: a file that is written repeatedly; `Word2Vec.resume` continues from it.
            checkpoint_every: seconds, or "epoch".
            distributed: share the work with the processes that torchrun has started.
            process_group: of `torch.distributed`, instead.
            tokens_per_period: after how many tokens processes exchange changes.
            cache_folder: folder for ids that do not fit into memory.
            memory_limit: bytes for ids in memory.
            encoding: of the texts.
            errors: what to do with invalid bytes; see `seqfast.embeddings.corpus.Decoding`.
            progress: show a bar.
            callbacks: see `seqfast.embeddings.callbacks`; gensim's work too.
            comment: kept with the model.
            compute_loss: accepted; the loss is always computed.
            batch_words: accepted, without effect.
            sorted_vocab: 1 only.
            hashfxn: None only.
            null_word: 0 only.
            cbow_step: steps of CBOW are this times `alpha`. None: the default.

        Raises:
            TypeError: an argument of a wrong type.
            ValueError: an argument out of range, an empty corpus or vocabulary.
            OSError: a file that cannot be read or written.
            FloatingPointError: the loss is infinite or NaN.
            Interrupted: Ctrl-C.
        """
        check_unused(sorted_vocab, batch_words, hashfxn, null_word)
        if legacy_cbow is None:
            legacy_cbow = not deterministic
        if cbow_step is None:
            cbow_step = cbow_step_of(sg, cbow_mean, legacy_cbow)
        settings = Settings(
            vector_size=vector_size,
            alpha=0.025 if alpha is None else alpha,
            window=window,
            min_count=min_count,
            max_vocab_size=max_vocab_size,
            max_final_vocab=max_final_vocab,
            sample=sample,
            seed=seed,
            min_alpha=min_alpha,
            sg=sg,
            hs=hs,
            negative=negative,
            ns_exponent=ns_exponent,
            cbow_mean=cbow_mean,
            shared_negatives=shared_negatives,
            legacy_cbow=legacy_cbow,
            epochs=epochs,
            shrink_windows=shrink_windows,
            deterministic=deterministic,
            tokens_per_period=tokens_per_period,
            comment=comment,
            cbow_step=cbow_step,
        )
        shared = bool(distributed) or process_group is not None
        place = check_device(OPERATION, device)
        runtime = Runtime(
            workers=workers,
            device=own_device(place) if shared else place,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            distributed=shared,
            process_group=process_group,
            cache_folder=cache_folder,
            memory_limit=memory_limit,
            encoding=encoding,
            errors=errors,
            progress=progress,
            callbacks=checked_callbacks(OPERATION, callbacks),
        )
        super().__init__(Word2VecState(settings, runtime), trim_rule, initial_vectors)
        self.locked = locked
        source = self._one_source(corpus, sentences=sentences, corpus_file=corpus_file)
        if source is not None:
            self._begin_with(source, words)

    @property
    def syn1neg(self) -> Array:
        """float32 [V, vector_size]: the words as what is predicted (with negatives, or softmax)."""
        return self._matrix("output")

    @property
    def syn1(self) -> Array:
        """float32 [V, vector_size]: the inner nodes of the Huffman tree (with `hs`), V - 1 of them,
        and a row that is never used, as in gensim."""
        nodes = self._matrix("nodes")
        shape = (len(self), nodes.shape[1])  # `new_matrices` has made one row more
        return np.lib.stride_tricks.as_strided(nodes, shape, nodes.strides)

    @property
    def cum_table(self) -> Array:
        """uint32 [V]: gensim's table of negatives, running sums that end at 2**31 - 1. For reading:
        seqfast draws by an alias table."""
        if not self.negative:
            raise AttributeError("Word2Vec: a model with negative=0 has no cum_table")
        share = np.cumsum(noise_weights(self.counts, self.ns_exponent))
        table = np.round(share / share[-1] * (2**31 - 1)) if len(share) else share
        return table.astype(np.uint32)

    @property
    def layer1_size(self) -> int:
        """`vector_size`, under the name gensim has for it, too."""
        return self.vector_size

    @property
    def min_alpha_yet_reached(self) -> float:
        """The smallest learning rate of a training so far; `alpha` before the first."""
        reached = self.state.least_alpha
        return self.alpha if reached is None else reached

    def estimate_memory(
        self, vocab_size: int | None = None, report: dict[str, int] | None = None
    ) -> dict[str, int]:
        """Bytes of a model of so many words (None: those there are), by what they are for.

        The entries of gensim: "vocab" (words and counts, 500 each), "vectors", "syn1", "syn1neg"
        and "total". A text that is kept takes 4 bytes a word on top.
        """
        words = len(self) if vocab_size is None else int(vocab_size)
        rows = words * stride_of(self.vector_size) * 4
        report = {} if report is None else report
        report["vocab"] = words * (700 if self.hs else 500)
        report["vectors"] = rows
        if self.hs:
            report["syn1"] = rows
        if self.negative or not self.hs:
            report["syn1neg"] = rows
        report["total"] = sum(value for name, value in report.items() if name != "total")
        return report

    def score(
        self,
        sentences: Iterable[Sequence[Any]],
        total_sentences: int | None = None,
        chunksize: int = 100,
        queue_factor: int = 2,
        report_delay: float = 1,
    ) -> Array:
        """Log-likelihood of each sentence in nats, float32 [sentences] (Taddy 2015); gensim's.

        Needs `hs=1`, else RuntimeError. Words without a vector are ignored; `total_sentences` and
        the arguments after it have no effect.
        """
        return score(self.state, sentences)

    def predict_output_word(
        self, context_words_list: Iterable[Any], topn: int = 10
    ) -> list[tuple[Any, float]] | None:
        """The `topn` likeliest words among these words (or ids), with their probabilities.

        None if no word is known. RuntimeError for a model that was not trained with negative
        samples.
        """
        return predict_output_word(self.state, context_words_list, topn)

    def init_sims(self, replace: bool = False) -> None:
        """gensim's: `replace=True` divides every vector by its length; else it does nothing."""
        if replace and len(self):
            self.wv.unit_normalize_all()

    def reset_from(self, other_model: Word2Vec) -> None:
        """Takes the words and counts of another model; vectors are initialised again."""
        self.state.set_vocabulary(
            Vocabulary(list(other_model.index_to_key), other_model.counts.copy()), False, None
        )
        self.state.corpus = None
        self.corpus_count = other_model.corpus_count
        self.corpus_total_words = other_model.corpus_total_words

    def _matrix(self, name: str) -> Array:
        if len(self) and name not in self.state.matrices:
            raise AttributeError(
                f"Word2Vec: a model with hs={self.hs} and negative={self.negative} has no {name}"
            )
        return super()._matrix(name)

    @classmethod
    def load(cls, path: Any, mmap: str | None = None, **runtime: Any) -> Word2Vec:
        """Reads a file of `save`, a checkpoint or a gensim model; it can be trained further.

        A gensim model is read with all its matrices. This needs gensim, and runs no code except
        that of gensim's and NumPy's classes.

        Args:
            path: a path, or an open file.
            mmap: None or "r": maps the separate arrays of gensim's models while they are read.
                The matrices are copied, because training changes them; with
                `WordVectors.load(path, mmap="r")` the vectors stay in the file.
            **runtime: arguments of the class that the file does not contain, such as `workers`,
                `device`, `progress`, `callbacks`, `checkpoint`; `locked` if the file has no locks.

        Returns:
            The model.

        Raises:
            OSError: a file that cannot be read.
            ValueError: another kind of file; the message says what reads it.
            TypeError: arguments that the file contains, or a corpus.
            ImportError: a gensim model without gensim.

        Example:
            >>> import seqfast
            >>> text = [["a", "b", "c", "d"]] * 5
            >>> options = {"min_count": 1, "vector_size": 8, "progress": False}
            >>> seqfast.Word2Vec(text, **options).save("model")
            >>> len(seqfast.Word2Vec.load("model"))
            4
        """
        check_choice(OPERATION, "mmap", mmap, (None, "r"))
        if not hasattr(path, "read") and begins_as_pickle(path):
            found = unpickled(path, mmap)
            if not hasattr(found, "wv"):
                raise ValueError(
                    f"Word2Vec: {path} has gensim's KeyedVectors, not a model; "
                    "seqfast.embeddings.WordVectors.load reads them"
                )
            model = cls(**settings_of_gensim(found), **runtime)
            restore_from_gensim(model.state, found)
            return model
        return super().load(path, **runtime)

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

        `corpus` None: the one that was read last; another one is encoded with the current
        vocabulary. `start_alpha` and `end_alpha` replace `alpha` and `min_alpha` in this call.
        `callbacks` None: those of the constructor. `resume=True` continues the run that Ctrl-C or
        an error ended, on the same corpus, to the planned end. gensim's other arguments have no
        effect, because the size of the corpus is known.

        After KeyboardInterrupt or an error in a callback, you can use, save and resume the model.
        Raises RuntimeError without a vocabulary or a run to resume; ValueError for a corpus without
        a word of the vocabulary, and for another corpus than that of the run to resume;
        FloatingPointError if the loss becomes infinite or NaN: you cannot resume that run, but an
        earlier checkpoint.
        """
        if not len(self):
            raise RuntimeError("Word2Vec: train needs a vocabulary; call build_vocab first")
        if self.state.kernels is not None:
            raise RuntimeError("Word2Vec: train was called while it is running")
        if word_count:
            raise ValueError(
                f"Word2Vec: word_count must be 0, got {word_count!r}; resume=True continues a run"
            )
        self._check()
        source = self._one_source(
            corpus, sentences=sentences, corpus_iterable=corpus_iterable, corpus_file=corpus_file
        )
        listeners = self.callbacks if callbacks is None else checked_callbacks(OPERATION, callbacks)
        unfinished = self.state.run
        if resume and (epochs, start_alpha, end_alpha) != (None, None, None):
            raise ValueError("Word2Vec: epochs and alphas must be None with resume=True")
        if resume and unfinished is None:
            raise RuntimeError("Word2Vec: there is no unfinished run to resume")
        # Raises while the text is unread and an unfinished run is still there.
        self.state.locked_rows()
        text = self._training_corpus(source, words)
        if unfinished is not None and resume:
            self.state.check_same_corpus(text)
            run = unfinished
        else:
            run = self._new_run(text, epochs, start_alpha, end_alpha)
        return self._carry_out(run, text, listeners, training.train)

    def _new_run(
        self, text: Corpus, epochs: int | None, start_alpha: float | None, end_alpha: float | None
    ) -> Run:
        settings = self.state.settings
        if epochs is not None:
            settings = dataclasses.replace(settings, epochs=epochs)
        settings.check()
        alpha = settings.alpha if start_alpha is None else start_alpha
        min_alpha = settings.min_alpha if end_alpha is None else end_alpha
        check_number(OPERATION, "start_alpha", alpha, NOT_NEGATIVE)
        check_few_words(settings, len(self), alpha)
        if self.state.least_alpha is not None and alpha > self.state.least_alpha:
            LOGGER.warning("Effective 'alpha' higher than previous training cycles")
        check_number(OPERATION, "end_alpha", min_alpha, NOT_NEGATIVE)
        return self.state.new_run(text, epochs=settings.epochs, alpha=alpha, min_alpha=min_alpha)
