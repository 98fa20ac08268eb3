"""GloVe: word vectors from how often words occur near each other."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seqfast.embeddings.base.checks import check_device
from seqfast.embeddings.base.model import Delegated, WordVectorModel
from seqfast.embeddings.base.run import Run
from seqfast.embeddings.base.runtime import Runtime
from seqfast.embeddings.callbacks import checked_callbacks
from seqfast.embeddings.corpus.selection import TrimRule
from seqfast.embeddings.corpus.sources import Source
from seqfast.embeddings.corpus.vocabulary import Corpus
from seqfast.embeddings.distributed import own_device
from seqfast.embeddings.files import PathLike
from seqfast.embeddings.glove import training
from seqfast.embeddings.glove.cooccurrences import Cooccurrences
from seqfast.embeddings.glove.settings import OPERATION, Settings
from seqfast.embeddings.glove.state import GloVeState

if TYPE_CHECKING:
    import torch
    from torch.distributed import ProcessGroup

Array = npt.NDArray[Any]


class GloVe(WordVectorModel):
    """Word vectors of Pennington, Socher & Manning 2014, trained on the co-occurrences of a text.

    `GloVe(corpus)` reads a corpus, builds its vocabulary, counts which words occur within `window`
    words of each other, and trains. After `GloVe()` call `build_vocab` and `train`.

    Training fits `word_vectors`, `context_vectors`, `word_biases` and `context_biases`; `vectors`
    combines the first two. If you change `vectors`, further training starts from word and context
    vectors that are moved by the same change. In callbacks and `Progress` an effective word, and an
    example, is an entry of the co-occurrence matrix.

    Args:
        corpus: a path or a list of paths, one sentence a line; an iterable of lists of words; or
            (ids, offsets) with `words`. As for `seqfast.Word2Vec`.
        sentences: the same as `corpus`.
        corpus_file: the same as `corpus`.
        words: names of ids.
        vector_size: size of a vector.
        window: words on each side that count as neighbours; a word at distance k counts 1 / k.
        min_count: rarer words are left out.
        x_max: entries with at least this count have weight 1.
        alpha: entries with a smaller count x have the weight (x / x_max)**alpha.
        learning_rate: of AdaGrad.
        epochs: passes over all entries.
        symmetric: count neighbours on both sides; False: only those after the word.
        distance_weighting: False: each neighbour counts 1, at any distance.
        combine: `vectors` is "mean": (word + context) / 2; "sum", as in the authors' program; or
            "words": word vectors only. "mean" and "sum" have the same cosines.
        grad_clip: limit of a gradient's components, as in the authors' program.
        max_vocab_size: limit of words while counting; None: no limit.
        max_final_vocab: largest size of the vocabulary; None: no limit.
        trim_rule: gensim's: decides for each word whether it is kept.
        seed: of initial values and of the order of entries.
        workers: threads; None: the same number as other operations.
        deterministic: the result is the same, bit for bit, for any number of workers and any
            memory_limit, whether or not this is True.
        device: "cpu", "cuda" or "cuda:1".
        locked: words, ids or a bool array [V]: rows of words and contexts that are not trained.
        initial_vectors: a mapping of words to vectors, or a model or KeyedVectors.
        checkpoint: a file that is written repeatedly; `GloVe.resume` continues from it. The first
            checkpoint is written before counting.
        checkpoint_every: seconds, or "epoch".
        distributed: share the work with the processes that torchrun has started; see
            `seqfast.embeddings.distributed`.
        process_group: the same, with a group of torch.distributed.
        tokens_per_period: strata of an epoch after which processes exchange changes.
        cache_folder: folder for temporary files of data beyond memory_limit.
        memory_limit: bytes for reading, for counting and for the entries in training, each.
            None: half of the free memory.
        progress: show a bar.
        callbacks: see `seqfast.embeddings.callbacks`.
        comment: kept with the model.

    Raises:
        TypeError: arguments of a wrong type.
        ValueError: arguments out of range, an empty corpus or vocabulary, a text in which no word
            has a neighbour.
        OSError: files that cannot be read, a disk that is full.
        FloatingPointError: the loss becomes infinite or NaN.
        Interrupted: Ctrl-C, also while counting.

    Example:
        >>> import seqfast
        >>> text = [["red", "apple", "tree"], ["green", "apple", "tree"]] * 20
        >>> model = seqfast.GloVe(text, vector_size=8, min_count=1, epochs=3, progress=False)
        >>> model["apple"].shape, len(model.cooccurrences.columns)
        ((8,), 10)
    """

    state_class = GloVeState
    settings_class = Settings
    state: GloVeState

    vector_size = Delegated[int]("settings")
    window = Delegated[int]("settings")
    min_count = Delegated[int]("settings")
    x_max = Delegated[float]("settings")
    alpha = Delegated[float]("settings")
    learning_rate = Delegated[float]("settings")
    epochs = Delegated[int]("settings")
    symmetric = Delegated[bool]("settings")
    distance_weighting = Delegated[bool]("settings")
    max_vocab_size = Delegated[int | None]("settings")
    max_final_vocab = Delegated[int | None]("settings")
    seed = Delegated[int]("settings")
    combine = Delegated[str]("settings")
    grad_clip = Delegated[float]("settings")
    deterministic = Delegated[bool]("settings")
    comment = Delegated[str | None]("settings")

    def __init__(
        self,
        corpus: Source | None = None,
        *,
        sentences: Source | None = None,
        corpus_file: Source | None = None,
        words: list[str] | None = None,
        vector_size: int = 100,
        window: int = 15,
        min_count: int = 5,
        x_max: float = 100.0,
        alpha: float = 0.75,
        learning_rate: float = 0.05,
        epochs: int = 25,
        symmetric: bool = True,
        distance_weighting: bool = True,
        combine: str = "mean",
        grad_clip: float = 100.0,
        max_vocab_size: int | None = None,
        max_final_vocab: int | None = None,
        trim_rule: TrimRule | None = None,
        seed: int = 1,
        workers: int | None = None,
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
    ) -> None:
        settings = Settings(
            vector_size=vector_size,
            window=window,
            min_count=min_count,
            x_max=x_max,
            alpha=alpha,
            learning_rate=learning_rate,
            epochs=epochs,
            symmetric=symmetric,
            distance_weighting=distance_weighting,
            max_vocab_size=max_vocab_size,
            max_final_vocab=max_final_vocab,
            seed=seed,
            combine=combine,
            grad_clip=grad_clip,
            deterministic=deterministic,
            comment=comment,
            tokens_per_period=tokens_per_period,
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
            progress=progress,
            callbacks=checked_callbacks(OPERATION, callbacks),
        )
        super().__init__(GloVeState(settings, runtime), trim_rule, initial_vectors)
        self.locked = locked
        source = self._one_source(corpus, sentences=sentences, corpus_file=corpus_file)
        if source is not None:
            self._begin_with(source, words)

    def __repr__(self) -> str:
        settings = self.state.settings
        return (
            f"GloVe(vocab={len(self)}, vector_size={settings.vector_size}, "
            f"window={settings.window}, learning_rate={settings.learning_rate})"
        )

    @property
    def cooccurrences(self) -> Cooccurrences | None:
        """The latest training data. `save` of the model does not write it; use its own `save`."""
        return self.state.cooccurrences

    @property
    def word_vectors(self) -> Array:
        """float32 [V, vector_size]: the words as rows of the matrix. A view."""
        return self._matrix("word_rows")

    @property
    def context_vectors(self) -> Array:
        """float32 [V, vector_size]: the words as columns. A view."""
        return self._matrix("context_rows")

    @property
    def word_biases(self) -> Array:
        """float32 [V], of rows. A view."""
        return self._biases("word_rows")

    @property
    def context_biases(self) -> Array:
        """float32 [V], of columns. A view."""
        return self._biases("context_rows")

    def _biases(self, name: str) -> Array:
        self._matrix(name)
        biases: Array = self.state.matrices[name][:, self.state.settings.vector_size]
        return biases

    def train(
        self,
        corpus: Source | None = None,
        *,
        words: list[str] | None = None,
        cooccurrences: Cooccurrences | None = None,
        epochs: int | None = None,
        callbacks: Any = None,
        resume: bool = False,
    ) -> tuple[int, int]:
        """Counts and trains for some epochs (None: `self.epochs`); returns (entries, raw words).

        `corpus` None: the one that was read last. `cooccurrences` replaces it; see
        `Cooccurrences.load` and `load_c_format`. `callbacks` None: those of the constructor.
        `resume=True` continues the run that Ctrl-C or an error ended, on the same corpus or
        co-occurrences, to the planned end.

        Raises RuntimeError without a vocabulary or a run to resume; ValueError for a corpus without
        a word of the vocabulary, for co-occurrences of another vocabulary, and for another corpus
        than that of the run to resume; FloatingPointError if the loss becomes infinite or NaN: you
        cannot resume that run, but an earlier checkpoint.
        """
        if not len(self):
            raise RuntimeError("GloVe: train needs a vocabulary; call build_vocab first")
        if self.state.kernels is not None:
            raise RuntimeError("GloVe: train was called while it is running")
        if corpus is not None and cooccurrences is not None:
            raise TypeError("GloVe: corpus and cooccurrences must not both be given")
        self._check()
        listeners = self.callbacks if callbacks is None else checked_callbacks(OPERATION, callbacks)
        unfinished = self.state.run
        if resume and epochs is not None:
            raise ValueError("GloVe: epochs must be None with resume=True, which runs to the end")
        if resume and unfinished is None:
            raise RuntimeError("GloVe: there is no unfinished run to resume")
        # Raises while the text is unread and an unfinished run is still there.
        self.state.locked_rows()
        if cooccurrences is not None:
            text = self._stand_in(cooccurrences)
        else:
            text = self._training_corpus(corpus, words)
        if unfinished is not None and resume:
            self.state.check_same_corpus(text)
            run = unfinished
        else:
            run = self._new_run(text, epochs)
        return self._carry_out(run, text, listeners, training.train)

    def _training_corpus(self, source: Source | None, words: list[str] | None) -> Corpus:
        if source is None and self.state.corpus is not None and not len(self.state.corpus.ids):
            return self.state.corpus  # that of co-occurrences that were given
        return super()._training_corpus(source, words)

    def _stand_in(self, given: Cooccurrences) -> Corpus:
        """What the loop needs of a corpus that only its co-occurrences are known of."""
        if not isinstance(given, Cooccurrences):
            raise TypeError(
                f"GloVe: cooccurrences must be Cooccurrences, got {type(given).__name__}; "
                "Cooccurrences.load or load_c_format reads a file"
            )
        known = self.index_to_key if given.words is None else list(given.words)
        if len(given) != len(self) or known != self.index_to_key:
            found = f"{len(given)} words"
            if len(given) == len(self):
                place = next(i for i, word in enumerate(known) if word != self.index_to_key[i])
                found += f", of which number {place} is {known[place]!r}"
            raise ValueError(
                f"GloVe: cooccurrences must be of the vocabulary of {len(self)} words, got {found}"
            )
        if not len(given.columns):
            raise ValueError("GloVe: cooccurrences must have entries, got none")
        self.state.cooccurrences = given
        empty, none = np.empty(0, np.int32), np.zeros(1, np.int64)
        entries = len(given.columns)
        return Corpus(empty, none, raw_words=entries, invalid_bytes=0, fingerprint=given.source)

    def _new_run(self, text: Corpus, epochs: int | None) -> Run:
        settings = self.state.settings
        if epochs is not None:
            settings = dataclasses.replace(settings, epochs=epochs)
        settings.check()
        rate = settings.learning_rate
        return self.state.new_run(text, epochs=settings.epochs, alpha=rate, min_alpha=rate)
