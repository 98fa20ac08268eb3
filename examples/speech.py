"""Speech to text with CTC: spoken digits, log-mel features in NumPy, an LSTM, three ways to decode.

CTC (Graves et al. 2006) needs no alignment: the network may say nothing (blank) or repeat itself.
Without --data the "speech" is made of tones; with it, real people say the digits.
"""

import io
import random
import wave

import numpy as np
import torch
from torch.nn.functional import ctc_loss, log_softmax

import seqfast.nn
from common import arguments, padded, read_archive, shuffled, train
from seqfast import decoding

SOURCE = (
    "tar or zip of https://github.com/Jakobovski/free-spoken-digit-dataset/tree/master/recordings"
)
RATE, FRAME, HOP, BANDS = 8000, 200, 80, 32
NAMES = "zero one two three four five six seven eight nine".split()
LETTERS = ["", *sorted({c for name in NAMES for c in name}), " "]  # the blank first


def log_mel(signal):
    """[frames, bands]: energies of overlapping windows in bands as wide as the ear's, in log."""
    frames = np.lib.stride_tricks.sliding_window_view(signal, FRAME)[::HOP] * np.hanning(FRAME)
    power = np.abs(np.fft.rfft(frames, 256)) ** 2
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + RATE / 1400), BANDS + 2) / 2595) - 1)
    hertz = np.fft.rfftfreq(256, 1 / RATE)
    rise = (hertz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - hertz) / (edges[2:] - edges[1:-1])[:, None]
    return np.log(power @ np.maximum(0, np.minimum(rise, fall)).T + 1e-6).astype(np.float32)


def tones(digit, rng):
    """A word of a made-up language: three tones, out of tune, longer or shorter."""
    parts = []
    for k in (1, 3, 7):
        hertz = (300 + 250 * ((digit * k + k) % 11)) * rng.uniform(0.97, 1.03)
        parts.append(np.sin(2 * np.pi * hertz / RATE * np.arange(rng.randint(500, 900))))
    return 0.3 * np.concatenate(parts)


def recordings(args, rng):
    """Signals of each digit, to learn from and to test on."""
    if args.data is None:
        parts = [{d: [tones(d, rng) for _ in range(n)] for d in range(10)} for n in (30, 10)]
        return parts[0], parts[1]
    known, test = ({d: [] for d in range(10)} for _ in range(2))
    for name, content in sorted(read_archive(args.data).items()):
        if name.endswith(".wav"):
            digit, _, take = name.split("/")[-1].removesuffix(".wav").split("_")
            with wave.open(io.BytesIO(content)) as file:
                samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
            (test if int(take) < 5 else known)[int(digit)].append(samples / 32768)
    return known, test


def utterance(voices, digits, rng):
    """Features [frames, bands] and the text of digits said one after the other."""
    noise = np.random.default_rng(rng.randrange(2**32)).standard_normal
    parts = []
    for digit in digits:
        parts += [0.003 * noise(rng.randint(200, 900)), rng.choice(voices[digit])]
    signal = np.concatenate([*parts, 0.003 * noise(500)])
    x = log_mel(signal)
    return torch.tensor(x - x.mean(0)), " ".join(NAMES[d] for d in digits)


class Recogniser(torch.nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.rnn = seqfast.nn.LSTM(2 * BANDS, hidden, num_layers=2, bidirectional=True, dropout=0.2)
        self.head = torch.nn.Linear(2 * hidden, len(LETTERS))

    def forward(self, x, lengths):  # [frames, batch, bands] -> log-probabilities at half the rate
        x = x[: len(x) // 2 * 2].unflatten(0, (-1, 2)).transpose(1, 2).flatten(2)
        output, _ = self.rnn(x, lengths=lengths // 2)
        return log_softmax(self.head(output), dim=-1), lengths // 2


def main(argv=None):
    from jiwer import wer

    args = arguments(__doc__, argv, data=(None, SOURCE), epochs=10, utterances=600, hidden=96)
    rng = random.Random(args.seed)
    known, test = recordings(args, rng)

    def said(voices, count):
        return [utterance(voices, rng.choices(range(10), k=rng.randint(1, 5)), rng)
                for _ in range(count)]  # fmt: skip

    learn, judge = said(known, args.utterances), said(test, 100)
    model = Recogniser(args.hidden)

    def loss_of(batch):
        log_probs, lengths = model(*padded([x for x, _ in batch]))
        texts = [torch.tensor([LETTERS.index(c) for c in text]) for _, text in batch]
        sizes = torch.tensor([len(t) for t in texts])
        return ctc_loss(log_probs, torch.cat(texts), lengths, sizes, zero_infinity=True)

    train(model, lambda: shuffled(learn, 16), loss_of, epochs=args.epochs, lr=3e-3)
    with torch.no_grad():
        log_probs, lengths = model(*padded([x for x, _ in judge]))
    log_probs = log_probs.transpose(0, 1)
    truth = [text for _, text in judge]
    found = {}
    for name, result in {
        "greedy": decoding.ctc_greedy(log_probs, lengths),
        "beam 50": decoding.ctc_beam_search(log_probs, lengths, beam_size=50),
    }.items():
        rows = result.lists()
        rows = [row[0] if name != "greedy" else row for row in rows]
        texts = ["".join(LETTERS[i] for i in row) for row in rows]
        found[name] = wer(truth, texts)
        print(f"{name:10} word error rate {found[name]:.1%}   e.g. {texts[0]!r} for {truth[0]!r}")
    return found


if __name__ == "__main__":
    main()
