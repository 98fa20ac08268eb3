"""Speech to text with CTC: spoken digits, log-mel features in NumPy, an LSTM, three ways to decode.

CTC (Graves et al. 2006) needs no alignment: the network may output a blank or repeat a letter.
Without --data the "speech" consists of tones; with it, real people say the digits.
"""

import itertools
import random

import numpy as np
import torch
from torch.nn.functional import ctc_loss, log_softmax

import seqfast.nn
from common import RATE, SPOKEN_DIGITS, arguments, padded, shuffled, spoken_digits, train
from seqfast import decoding

FRAME, HOP, BANDS = 200, 80, 32
NAMES = "zero one two three four five six seven eight nine".split()
LETTERS = ["", *sorted({c for name in NAMES for c in name}), "_"]  # the blank first, a space last


def log_mel(signal):
    """[frames, bands]: energies of overlapping windows in bands as wide as the ear's, in log."""
    frames = np.lib.stride_tricks.sliding_window_view(signal, FRAME)[::HOP] * np.hanning(FRAME)
    power = np.abs(np.fft.rfft(frames, 256)) ** 2
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + RATE / 1400), BANDS + 2) / 2595) - 1)
    hertz = np.fft.rfftfreq(256, 1 / RATE)
    rise = (hertz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - hertz) / (edges[2:] - edges[1:-1])[:, None]
    return np.log(power @ np.maximum(0, np.minimum(rise, fall)).T + 1e-6).astype(np.float32)


def utterance(voices, digits, rng):
    """Features [frames, bands] and the text of digits said one after the other."""
    noise = np.random.default_rng(rng.randrange(2**32)).standard_normal
    parts = []
    for digit in digits:
        parts += [0.003 * noise(rng.randint(200, 900)), rng.choice(voices[digit])]
    signal = np.concatenate([*parts, 0.003 * noise(500)])
    x = log_mel(signal)
    return torch.tensor(x - x.mean(0)), "_".join(NAMES[d] for d in digits)


class Recogniser(torch.nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.rnn = seqfast.nn.LSTM(2 * BANDS, hidden, num_layers=2, bidirectional=True, dropout=0.2)
        self.head = torch.nn.Linear(2 * hidden, len(LETTERS))

    def forward(self, x, lengths):  # [frames, batch, bands] -> log-probabilities at half the rate
        x = x[: len(x) // 2 * 2].unflatten(0, (-1, 2)).transpose(1, 2).flatten(2)
        output, _ = self.rnn(x, lengths=lengths // 2)
        return log_softmax(self.head(output), dim=-1), lengths // 2


def spelling():
    """A language model of letters that knows the spelling of digits, for the beam search."""
    pairs = ["_".join(pair) for pair in itertools.product(NAMES, NAMES)]
    model = decoding.NGram.train(map(list, pairs), order=5)
    letters = model.ids(LETTERS[1:])

    def after(prefixes, lengths):  # ids [n, longest], [n] -> log-probabilities [n, letters]
        rows = zip(prefixes.tolist(), lengths.tolist(), strict=True)
        states = [model.state(["<s>", *(LETTERS[i] for i in row[:n])]) for row, n in rows]
        _, found = model.step(np.array(states)[:, None], letters)
        return torch.tensor(np.pad(found, ((0, 0), (1, 0))), dtype=torch.float32)

    return after


def main(argv=None):
    from jiwer import wer

    args = arguments(__doc__, argv, data=(None, SPOKEN_DIGITS), epochs=10, utterances=600)
    rng = random.Random(args.seed)
    known, test = spoken_digits(args.data, rng)

    def said(voices, count):
        drawn = [rng.choices(range(10), k=rng.randint(1, 5)) for _ in range(count)]
        return [utterance(voices, digits, rng) for digits in drawn]

    learn, judge = said(known, args.utterances), said(test, 100)
    model = Recogniser(96)

    def loss_of(batch):
        log_probs, lengths = model(*padded([x for x, _ in batch]))
        texts, sizes = padded([torch.tensor([LETTERS.index(c) for c in t]) for _, t in batch])
        return ctc_loss(log_probs, texts.t(), lengths, sizes, zero_infinity=True)

    train(model, lambda: shuffled(learn, 16), loss_of, epochs=args.epochs, lr=3e-3)
    with torch.no_grad():
        log_probs, lengths = model(*padded([x for x, _ in judge]))
    given, beam, found = (log_probs.transpose(0, 1), lengths), decoding.ctc_beam_search, {}
    for name, result in {
        "greedy": decoding.ctc_greedy(*given),
        "beam": beam(*given, beam_size=20),
        "beam + language model": beam(*given, beam_size=20, lm=spelling(), lm_weight=0.5),
    }.items():
        rows = [row if name == "greedy" else row[0] for row in result.lists()]
        texts = ["".join(LETTERS[i] for i in row).replace("_", " ") for row in rows]
        found[name] = wer([text.replace("_", " ") for _, text in judge], texts)
        print(f"{name:22} word error rate {found[name]:5.1%}  such as {texts[0]!r}")
    return found


if __name__ == "__main__":
    main()
