"""The interface of pyctcdecode around `CtcDecoder`, for programs that are written for it."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from seqfast.decoding.ctc.decoder import CtcDecoder
from seqfast.decoding.ctc.transcripts import CtcTranscript, CtcTranscripts
from seqfast.decoding.ngram import BEGIN, NGram

Array = Any  # a numpy.ndarray or a torch.Tensor
Frames = list[tuple[str, tuple[int, int]]]

_BLANK = re.compile(r"^[<\[]pad[>\]]$", re.IGNORECASE)
_UNKNOWN = re.compile(r"^[<\[]unk[>\]]$", re.IGNORECASE)
_SPECIAL = re.compile(r"^[<\[].+[>\]]$")
_UNKNOWN_TOKEN, _MARK = "⁇", "▁"
_UNKNOWN_PIECE = _MARK + _UNKNOWN_TOKEN + _MARK
_PART_LENGTH = 6  # letters; longer parts of unknown words cost more
_LEAST = math.log(1e-15)

_CONSTANTS = {
    "DEFAULT_ALPHA": 0.5,
    "DEFAULT_BETA": 1.5,
    "DEFAULT_UNK_LOGP_OFFSET": -10.0,
    "DEFAULT_BEAM_WIDTH": 100,
    "DEFAULT_HOTWORD_WEIGHT": 10.0,
    "DEFAULT_PRUNE_LOGP": -10.0,
    "DEFAULT_PRUNE_BEAMS": False,
    "DEFAULT_MIN_TOKEN_LOGP": -5.0,
    "DEFAULT_SCORE_LM_BOUNDARY": True,
}


class Alphabet:
    """The labels of a model's outputs as a decoder has them: "" the blank, " " between words.

    Args:
        labels: the tokens by id, already in that form; `build_alphabet` brings them into it.
        is_bpe: whether words begin with "▁".

    Example:
        >>> from seqfast.decoding.ctc.pyctcdecode import Alphabet
        >>> Alphabet.build_alphabet(["<pad>", "|", "a"]).labels
        ['', ' ', 'a']
    """

    def __init__(self, labels: Sequence[str], is_bpe: bool) -> None:
        self._labels, self.is_bpe = list(labels), is_bpe

    @property
    def labels(self) -> list[str]:
        """A copy of them."""
        return list(self._labels)

    @classmethod
    def build_alphabet(cls, labels: Sequence[str]) -> Alphabet:
        """From a tokenizer's tokens: "<pad>" or "_" is the blank, "|" the space, "##" a piece.

        Args:
            labels: the tokens by id. Without a blank one is added behind the last.

        Returns:
            The alphabet.

        Raises:
            ValueError: for a token that is there twice.
        """
        names = list(labels)
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(
                f"build_ctcdecoder: labels must be there once each, got {twice!r} twice"
            )
        hashes = any(name.startswith("##") for name in names)
        pieces = hashes or any(name.startswith(_MARK) for name in names)
        if hashes:
            names = [_with_mark(name) for name in names]
        if not pieces and "|" in names and " " not in names:
            names[names.index("|")] = " "
        names = ["" if _BLANK.match(name) else name for name in names]
        if not pieces and "_" in names and "" not in names:
            names[names.index("_")] = ""
        if "" not in names:
            names.append("")
        unknown = _UNKNOWN_PIECE if pieces else _UNKNOWN_TOKEN
        return cls([unknown if _UNKNOWN.match(name) else name for name in names], pieces)

    def dumps(self) -> str:
        """As JSON."""
        return json.dumps({"labels": self._labels, "is_bpe": self.is_bpe})

    @classmethod
    def loads(cls, text: str) -> Alphabet:
        """From JSON."""
        read = json.loads(text)
        return cls(read["labels"], read["is_bpe"])


def _with_mark(name: str) -> str:
    if name.startswith("##"):
        return name[2:]
    plain = not _SPECIAL.match(name) and name not in ("", _MARK, _UNKNOWN_PIECE)
    return _MARK + name if plain else name


class LanguageModel:
    """An n-gram model with pyctcdecode's weights, which may be set at any time.

    Args:
        ngram: the model.
        unigrams: the words that count as known. None: all of the model's.
        alpha: weight of the model.
        beta: added for each word.
        unk_score_offset: added to log10 of an unknown word's probability, and to the score of a
            part that begins no known word.
        score_boundary: whether texts begin after `<s>` and end with `</s>`.

    Example:
        >>> from seqfast.decoding import NGram
        >>> from seqfast.decoding.ctc.pyctcdecode import LanguageModel
        >>> LanguageModel(NGram.train(["a b"], order=2)).order
        2
    """

    def __init__(
        self,
        ngram: NGram,
        unigrams: Iterable[str] | None = None,
        alpha: float = 0.5,
        beta: float = 1.5,
        unk_score_offset: float = -10.0,
        score_boundary: bool = True,
    ) -> None:
        self.ngram = ngram
        self.unigrams = None if unigrams is None else sorted(set(unigrams))
        self.alpha, self.beta = alpha, beta
        self.unk_score_offset, self.score_boundary = unk_score_offset, score_boundary

    @property
    def order(self) -> int:
        """Of its longest n-grams."""
        return self.ngram.order

    def reset_params(self, **params: Any) -> None:
        """Sets alpha, beta, unk_score_offset and score_boundary; None leaves one as it is."""
        for name, value in params.items():
            if name not in ("alpha", "beta", "unk_score_offset", "score_boundary"):
                raise ValueError(
                    f"reset_params: there is no parameter {name!r}, only alpha, beta, "
                    "unk_score_offset and score_boundary"
                )
            if value is not None:
                setattr(self, name, value)


@dataclasses.dataclass(frozen=True)
class LanguageState:
    """Where a text has left the language model: `lm_start_state` of the next one.

    Example:
        >>> from seqfast.decoding.ctc.pyctcdecode import LanguageState
        >>> LanguageState(("a", "b")).words
        ('a', 'b')
    """

    words: tuple[str, ...]
    """The last words."""


class BeamSearchDecoderCTC:
    """pyctcdecode's decoder. Scores, frames and pruning are named and meant as there.

    Texts are those of a prefix beam search that adds up both kinds of alignments of a prefix, so
    that of two texts with nearly the same score another may win. `lm_score` has the part of the
    hotwords as there.

    Args:
        alphabet: the labels.
        language_model: the model. None: none.

    Example:
        >>> import numpy as np
        >>> from seqfast.decoding import build_ctcdecoder
        >>> decoder = build_ctcdecoder(["", " ", "a"])
        >>> decoder.decode(np.log([[0.1, 0.1, 0.8], [0.8, 0.1, 0.1]]))
        'a'
    """

    def __init__(self, alphabet: Alphabet, language_model: LanguageModel | None = None) -> None:
        self._alphabet = alphabet
        self._model_key = "language_model"
        self.model_container = {self._model_key: language_model}
        self._made: dict[bool, CtcDecoder] = {}

    @property
    def _language_model(self) -> LanguageModel | None:
        return self.model_container[self._model_key]

    def reset_params(
        self,
        alpha: float | None = None,
        beta: float | None = None,
        unk_score_offset: float | None = None,
        lm_score_boundary: bool | None = None,
    ) -> None:
        """Sets what is not None."""
        if self._language_model is not None:
            self._language_model.reset_params(
                alpha=alpha,
                beta=beta,
                unk_score_offset=unk_score_offset,
                score_boundary=lm_score_boundary,
            )

    def decode(
        self,
        logits: Array,
        beam_width: int = 100,
        beam_prune_logp: float = -10.0,
        token_min_logp: float = -5.0,
        hotwords: Iterable[str] | None = None,
        hotword_weight: float = 10.0,
        lm_start_state: LanguageState | None = None,
    ) -> str:
        """The best text of one utterance.

        Args:
            logits: [frames, vocab]: logits, log-probabilities or probabilities.
            beam_width: prefixes kept after each frame.
            beam_prune_logp: how far below the best a prefix may be, as a number below 0.
            token_min_logp: tokens below it are not looked at.
            hotwords: words that are to be heard.
            hotword_weight: what each adds.
            lm_start_state: of the text before.

        Returns:
            The text.

        Raises:
            ValueError: for a wrong shape.
        """
        return self._search(
            [logits], 1, beam_width, beam_prune_logp, token_min_logp, hotwords, hotword_weight,
            lm_start_state,
        ).texts[0]  # fmt: skip

    def decode_batch(
        self,
        pool: Any,
        logits_list: Iterable[Array],
        beam_width: int = 100,
        beam_prune_logp: float = -10.0,
        token_min_logp: float = -5.0,
        hotwords: Iterable[str] | None = None,
        hotword_weight: float = 10.0,
    ) -> list[str]:
        """The best texts of several utterances.

        Args:
            pool: not used: the rows share this process's threads.
            logits_list: as for `decode`, each.
            beam_width: as for `decode`; so are the others.
            beam_prune_logp: how far below the best.
            token_min_logp: the least of a token.
            hotwords: of all of them.
            hotword_weight: of each.

        Returns:
            The texts.
        """
        return self._search(
            list(logits_list), 1, beam_width, beam_prune_logp, token_min_logp, hotwords,
            hotword_weight,
        ).texts  # fmt: skip

    def decode_beams(
        self,
        logits: Array,
        beam_width: int = 100,
        beam_prune_logp: float = -10.0,
        token_min_logp: float = -5.0,
        prune_history: bool = False,
        hotwords: Iterable[str] | None = None,
        hotword_weight: float = 10.0,
        lm_start_state: LanguageState | None = None,
    ) -> list[tuple[str, LanguageState, Frames, float, float]]:
        """All texts that are left at the end, the best first.

        Args:
            logits: as for `decode`; so are the others.
            beam_width: prefixes kept.
            beam_prune_logp: how far below the best.
            token_min_logp: the least of a token.
            prune_history: not used: prefixes are not dropped for having the same last words.
            hotwords: words that are to be heard.
            hotword_weight: what each adds.
            lm_start_state: of the text before.

        Returns:
            For each: text, state of the language model, words with first frame and the one after
            the last, log-probability of the alignments, and with what the language adds.
        """
        found = self._search(
            [logits], beam_width, beam_width, beam_prune_logp, token_min_logp, hotwords,
            hotword_weight, lm_start_state,
        )  # fmt: skip
        before = lm_start_state.words if lm_start_state is not None else ()
        return [
            (
                t.text,
                LanguageState((*before, *t.text.split())),
                _frames(t),
                t.acoustic_score,
                t.score,
            )
            for t in _near(found.n_best[0], beam_prune_logp)
        ]

    def decode_beams_batch(
        self,
        pool: Any,
        logits_list: Iterable[Array],
        beam_width: int = 100,
        beam_prune_logp: float = -10.0,
        token_min_logp: float = -5.0,
        prune_history: bool = False,
        hotwords: Iterable[str] | None = None,
        hotword_weight: float = 10.0,
    ) -> list[list[tuple[str, Frames, float, float]]]:
        """All texts of several utterances; as `decode_beams`, but without states.

        Args:
            pool: not used: the rows share this process's threads.
            logits_list: as for `decode`, each; so are the others.
            beam_width: prefixes kept.
            beam_prune_logp: how far below the best.
            token_min_logp: the least of a token.
            prune_history: not used.
            hotwords: of all of them.
            hotword_weight: of each.

        Returns:
            For each utterance its texts, the best first.
        """
        found = self._search(
            list(logits_list), beam_width, beam_width, beam_prune_logp, token_min_logp, hotwords,
            hotword_weight,
        )  # fmt: skip
        return [
            [(t.text, _frames(t), t.acoustic_score, t.score) for t in _near(row, beam_prune_logp)]
            for row in found.n_best
        ]

    def save_to_dir(self, filepath: str | os.PathLike[str]) -> None:
        """Writes alphabet.json, and language_model/ with the model as an ARPA file.

        Args:
            filepath: a directory.
        """
        root = Path(filepath)
        (root / "alphabet.json").write_text(self._alphabet.dumps(), encoding="utf-8")
        model = self._language_model
        if model is None:
            return
        folder = root / "language_model"
        folder.mkdir()
        names = ("alpha", "beta", "unk_score_offset", "score_boundary")
        attributes = {name: getattr(model, name) for name in names}
        (folder / "attrs.json").write_text(json.dumps(attributes), encoding="utf-8")
        words = model.unigrams if model.unigrams is not None else model.ngram.vocabulary
        (folder / "unigrams.txt").write_text("".join(f"{w}\n" for w in words), encoding="utf-8")
        model.ngram.save(folder / "lm.arpa")

    @classmethod
    def load_from_dir(
        cls, filepath: str | os.PathLike[str], unigram_encoding: str | None = None
    ) -> BeamSearchDecoderCTC:
        """Reads what `save_to_dir` wrote, or pyctcdecode with an ARPA file.

        Args:
            filepath: the directory.
            unigram_encoding: of unigrams.txt; None: UTF-8.

        Returns:
            The decoder.

        Raises:
            OSError: where a file is missing.
            ValueError: for a model that is no ARPA file.
        """
        root = Path(filepath)
        alphabet = Alphabet.loads((root / "alphabet.json").read_text(encoding="utf-8"))
        folder = root / "language_model"
        if not folder.is_dir():
            return cls(alphabet)
        attributes = json.loads((folder / "attrs.json").read_text(encoding="utf-8"))
        text = (folder / "unigrams.txt").read_text(encoding=unigram_encoding or "utf-8")
        others = ("attrs.json", "unigrams.txt")
        files = [path for path in sorted(folder.iterdir()) if path.name not in others]
        if len(files) != 1:
            raise ValueError(
                f"load_from_dir: {folder} must have one language model beside {others}, "
                f"got {[path.name for path in files]}"
            )
        model = LanguageModel(NGram.load(files[0]), text.splitlines(), **attributes)
        return cls(alphabet, model)

    def _search(
        self,
        logits: list[Array],
        n_best: int,
        beam_width: int,
        beam_prune_logp: float,
        token_min_logp: float,
        hotwords: Iterable[str] | None,
        hotword_weight: float,
        lm_start_state: LanguageState | None = None,
    ) -> CtcTranscripts:
        rows = [self._log_probs(each) for each in logits]
        lengths = [len(row) for row in rows]
        vocab = len(self._alphabet.labels)
        padded = np.zeros((len(rows), max(lengths, default=0), vocab), np.float32)
        for to, row in zip(padded, rows, strict=True):
            to[: len(row)] = row
        decoder = self._decoder(n_best, beam_width, beam_prune_logp, token_min_logp, lm_start_state)
        wanted = [word for phrase in hotwords or () for word in phrase.split()]
        # What the labels cannot spell cannot be heard.
        impossible = decoder._spelling.impossible(wanted)
        heard = {word: float(hotword_weight) for word in wanted if word not in impossible}
        return decoder(padded, lengths, hotwords=heard or None)

    def _log_probs(self, logits: Array) -> np.ndarray[Any, Any]:
        if hasattr(logits, "detach"):
            logits = logits.detach().cpu().float().numpy()
        values = np.asarray(logits)
        vocab = len(self._alphabet.labels)
        if values.ndim != 2 or values.shape[1] != vocab:
            raise ValueError(
                f"decode: logits must be [frames, {vocab}], as there are {vocab} labels, "
                f"got {list(values.shape)}"
            )
        found: np.ndarray[Any, Any] = values.astype(np.float64)
        if len(found) and math.isclose(found.sum(1).mean(), 1, rel_tol=1e-9):  # probabilities
            with np.errstate(divide="ignore"):
                found = np.log(found)
        else:
            found = found - np.logaddexp.reduce(found, 1, keepdims=True)
        return np.clip(found, _LEAST, 0, out=found)

    def _decoder(
        self,
        n_best: int,
        beam_width: int,
        beam_prune_logp: float,
        token_min_logp: float,
        lm_start_state: LanguageState | None,
    ) -> CtcDecoder:
        model = self._language_model
        ends = model is None or model.score_boundary
        if ends not in self._made:
            names = [name.removesuffix(_MARK) or name for name in self._alphabet.labels]
            self._made[ends] = CtcDecoder(
                names,
                lm=None if model is None else model.ngram,
                known_words=None if model is None else model.unigrams,
                sentence_ends=ends,
                word_boundary="auto" if self._alphabet.is_bpe or " " in names else None,
            )
        decoder = self._made[ends]._with(
            beam_size=beam_width,
            n_best=n_best,
            beam_threshold=-beam_prune_logp,
            min_log_prob=token_min_logp,
        )
        if model is not None:
            weighted = model.alpha * model.unk_score_offset * math.log(10)
            decoder._set_weights(model.alpha, model.beta, weighted)
            changes: dict[str, Any] = {
                "unknown_part": float(model.unk_score_offset),
                "part_length": float(_PART_LENGTH),
            }
            if lm_start_state is not None:
                begin = [BEGIN] if model.score_boundary else []
                changes["start"] = model.ngram.state([*begin, *lm_start_state.words])
            decoder._language = dataclasses.replace(decoder._language, **changes)
        return decoder


def _frames(transcript: CtcTranscript) -> Frames:
    return [(w.text, (w.first_frame, w.last_frame + 1)) for w in transcript.words]


def _near(transcripts: list[CtcTranscript], beam_prune_logp: float) -> list[CtcTranscript]:
    """Those that are not too far below the best."""
    return [t for t in transcripts if t.score >= transcripts[0].score + beam_prune_logp]


def build_ctcdecoder(
    labels: Sequence[str],
    kenlm_model_path: str | os.PathLike[str] | NGram | None = None,
    unigrams: Iterable[str] | None = None,
    alpha: float = 0.5,
    beta: float = 1.5,
    unk_score_offset: float = -10.0,
    lm_score_boundary: bool = True,
) -> BeamSearchDecoderCTC:
    """pyctcdecode's constructor.

    Args:
        labels: the tokens by id, as a tokenizer has them.
        kenlm_model_path: an ARPA file, plain or .gz, or an `NGram`. None: no language model.
        unigrams: the words that count as known. None: all of the model's.
        alpha: weight of the language model.
        beta: added for each word.
        unk_score_offset: added to log10 of the probability of unknown words.
        lm_score_boundary: whether texts begin after `<s>` and end with `</s>`.

    Returns:
        The decoder.

    Raises:
        OSError: where the file cannot be read.
        ValueError: for labels that are there twice, and what is no ARPA file.

    Example:
        >>> import numpy as np
        >>> from seqfast.decoding import build_ctcdecoder
        >>> decoder = build_ctcdecoder(["<pad>", "|", "a", "b"])
        >>> decoder.decode(np.log([[0.1, 0.1, 0.7, 0.1], [0.1, 0.1, 0.1, 0.7]]))
        'ab'
    """
    alphabet = Alphabet.build_alphabet(labels)
    if kenlm_model_path is None:
        return BeamSearchDecoderCTC(alphabet)
    given = kenlm_model_path
    ngram = given if isinstance(given, NGram) else NGram.load(given)
    model = LanguageModel(ngram, unigrams, alpha, beta, unk_score_offset, lm_score_boundary)
    return BeamSearchDecoderCTC(alphabet, model)


def provide_pyctcdecode() -> ModuleType:
    """Lets `import pyctcdecode` find this module, for libraries that import it by that name.

    Such as transformers' `Wav2Vec2ProcessorWithLM`. Nothing is replaced where pyctcdecode itself
    has been imported.

    Returns:
        What `import pyctcdecode` gives.

    Example:
        >>> from seqfast.decoding.ctc.pyctcdecode import provide_pyctcdecode
        >>> provide_pyctcdecode().build_ctcdecoder(["", " ", "a"]).decode([[0.0, 0.0, 9.0]])
        'a'
    """
    if "pyctcdecode" in sys.modules:
        return sys.modules["pyctcdecode"]
    package = ModuleType("pyctcdecode", __doc__)
    package.__path__ = []
    parts: dict[str, dict[str, Any]] = {
        "alphabet": {
            "Alphabet": Alphabet,
            "BLANK_TOKEN_PTN": _BLANK,
            "UNK_TOKEN_PTN": _UNKNOWN,
            "UNK_TOKEN": _UNKNOWN_TOKEN,
            "UNK_BPE_TOKEN": _UNKNOWN_PIECE,
        },
        "constants": _CONSTANTS,
        "decoder": {
            "BeamSearchDecoderCTC": BeamSearchDecoderCTC,
            "build_ctcdecoder": build_ctcdecoder,
        },
        "language_model": {"LanguageModel": LanguageModel},
    }
    for name, members in parts.items():
        module = ModuleType(f"pyctcdecode.{name}")
        vars(module).update(members)
        setattr(package, name, module)
        sys.modules[module.__name__] = module
    for value in (Alphabet, BeamSearchDecoderCTC, LanguageModel, build_ctcdecoder):
        setattr(package, value.__name__, value)
    sys.modules["pyctcdecode"] = package
    return package
