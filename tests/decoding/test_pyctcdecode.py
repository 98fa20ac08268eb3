"""pyctcdecode's interface: its shapes and rules, and transformers' processor around it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from seqfast.decoding import NGram, build_ctcdecoder
from seqfast.decoding.ctc.pyctcdecode import Alphabet, BeamSearchDecoderCTC

LABELS = ["<pad>", "<unk>", "|", "a", "b", "c"]
SENTENCES = ["ab a b", "a b ab", "ba ab", "b b a", "cab a", "ab ab a"]


def logits(seed: int, frames: int = 12) -> np.ndarray:
    return 3 * np.random.default_rng(seed).standard_normal((frames, len(LABELS)))


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> BeamSearchDecoderCTC:
    path = tmp_path_factory.mktemp("lm") / "lm.arpa"
    NGram.train(SENTENCES, order=3).save(path)
    return build_ctcdecoder(LABELS, str(path), alpha=0.5, beta=1.5)


ALPHABETS = [
    (["<pad>", "|", "a"], ["", " ", "a"], False),
    (["[PAD]", "[UNK]", " ", "|"], ["", "⁇", " ", "|"], False),
    (["_", " ", "a"], ["", " ", "a"], False),
    ([" ", "a"], [" ", "a", ""], False),
    (["<unk>", "▁a", "b", ""], ["▁⁇▁", "▁a", "b", ""], True),
    (["[PAD]", "[CLS]", "the", "##re"], ["", "[CLS]", "▁the", "re"], True),
]


@pytest.mark.parametrize(
    ("labels", "expected", "pieces"), ALPHABETS, ids=[str(a[0]) for a in ALPHABETS]
)
def test_alphabets(labels: list[str], expected: list[str], pieces: bool) -> None:
    alphabet = Alphabet.build_alphabet(labels)
    assert (alphabet.labels, alphabet.is_bpe) == (expected, pieces)
    again = Alphabet.loads(alphabet.dumps())
    assert (again.labels, again.is_bpe) == (expected, pieces)


def test_shapes(decoder: BeamSearchDecoderCTC) -> None:
    rows = [logits(0), logits(1, 7)]
    beams = decoder.decode_beams(rows[0])
    text, _, frames, logit_score, lm_score = beams[0]
    assert decoder.decode(rows[0]) == text
    assert " ".join(word for word, _ in frames) == text
    ends = [end for _, pair in frames for end in pair]
    assert ends == sorted(ends)
    assert 0 <= ends[0] < ends[-1] <= 12
    assert lm_score == max(beam[4] for beam in beams)
    assert all(beam[4] >= lm_score - 10 for beam in beams)
    assert len({beam[0] for beam in beams}) == len(beams)
    assert logit_score != lm_score
    assert decoder.decode_batch(None, rows) == [decoder.decode(row) for row in rows]
    assert decoder.decode_beams_batch(None, rows)[0][0] == (text, frames, logit_score, lm_score)


def test_logits_log_probabilities_and_probabilities_are_one(decoder: BeamSearchDecoderCTC) -> None:
    x = logits(2)
    log_probs = x - np.logaddexp.reduce(x, 1, keepdims=True)
    texts = {decoder.decode(form) for form in (x, x + 7, log_probs, np.exp(log_probs))}
    assert len(texts) == 1


def test_scores_are_what_its_rules_say(decoder: BeamSearchDecoderCTC) -> None:
    """With the weights of base 10, offsets of unknown words and hotwords."""
    model = decoder._language_model
    assert model is not None
    hot = {"cc": 10.0}
    for text, _, _, logit_score, lm_score in decoder.decode_beams(logits(3), hotwords=["cc "]):
        context, expected = ["<s>"], 0.0
        words = text.split()
        for place, word in enumerate(words):
            log10 = model.ngram.logprob(word, context) / math.log(10)
            log10 -= 0.0 if word in model.ngram.vocabulary else 10.0
            context.append(word)
            if place == len(words) - 1:
                log10 += model.ngram.logprob("</s>", context) / math.log(10)
            expected += 0.5 * log10 * math.log(10) + 1.5 + hot.get(word, 0.0)
        if words:
            assert lm_score - logit_score == pytest.approx(expected, abs=1e-6)


def test_parameters_states_and_files(decoder: BeamSearchDecoderCTC, tmp_path: Path) -> None:
    decoder.save_to_dir(tmp_path)
    other = BeamSearchDecoderCTC.load_from_dir(tmp_path)
    assert json.loads((tmp_path / "alphabet.json").read_text())["labels"][2] == " "
    assert other.decode_beams(logits(4))[0][4] == pytest.approx(
        decoder.decode_beams(logits(4))[0][4]
    )
    state = other.decode_beams(logits(4))[0][1]
    carried = other.decode_beams(logits(5), lm_start_state=state)[0]
    assert carried[4] != other.decode_beams(logits(5))[0][4]
    before = other.decode_beams(logits(4))[0]
    other.reset_params(alpha=0.0, beta=0.0, unk_score_offset=0.0, lm_score_boundary=False)
    text, _, _, logit_score, lm_score = other.decode_beams(logits(4))[0]
    assert lm_score == pytest.approx(logit_score)
    assert (text, lm_score) != (before[0], before[4])
    with pytest.raises(ValueError, match="there is no parameter 'gamma'"):
        other._language_model.reset_params(gamma=1.0)
    with pytest.raises(ValueError, match=r"logits must be \[frames, 6\], as there are 6 labels"):
        decoder.decode(logits(0)[:, :5])
    with pytest.raises(ValueError, match="labels must be there once each, got 'a' twice"):
        build_ctcdecoder(["", "a", "a"])


def test_hotwords_win_and_impossible_ones_do_nothing(decoder: BeamSearchDecoderCTC) -> None:
    x = logits(6)
    plain = decoder.decode(x)
    assert decoder.decode(x, hotwords=["", "größe"]) == plain
    assert (
        "cc"
        in decoder.decode(x, hotwords=["cc"], hotword_weight=60.0, token_min_logp=-50.0).split()
    )


PROCESSOR = """
import json, pathlib, sys
import numpy as np
from seqfast.decoding import NGram, build_ctcdecoder, provide_pyctcdecode
provide_pyctcdecode()
from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ProcessorWithLM
folder = pathlib.Path(sys.argv[1])
labels = ["<pad>", "<s>", "</s>", "<unk>", "|", "A", "B"]
(folder / "vocab.json").write_text(json.dumps({name: id for id, name in enumerate(labels)}))
tokenizer = Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
lm = NGram.train(["A B", "B A", "A"], order=2)
names = [name for name, _ in sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])]
decoder = build_ctcdecoder(names, lm)
processor = Wav2Vec2ProcessorWithLM(Wav2Vec2FeatureExtractor(), tokenizer, decoder)
logits = 4 * np.random.default_rng(0).standard_normal((2, 20, len(names)))
one = processor.decode(logits[0], output_word_offsets=True, alpha=0.4, beta=1.0, n_best=1)
decoder.reset_params(alpha=0.4, beta=1.0)
assert one.text == decoder.decode(logits[0])
assert [o["word"] for o in one.word_offsets] == one.text.split()
logits[1, 15:] = -100.0  # padding
many = processor.batch_decode(logits, num_processes=1, hotwords=["AB"], output_word_offsets=True)
assert many.text[0] == decoder.decode(logits[0], hotwords=["AB"])
assert many.text[1] == decoder.decode(logits[1, :15], hotwords=["AB"])
assert len(many.lm_score) == 2
print("runs")
"""


def test_transformers_processor_runs_on_it(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs transformers")
    command = [sys.executable, "-c", PROCESSOR, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.stdout.endswith("runs\n"), done.stderr[-3000:]
