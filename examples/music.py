"""Melodies as sequences: an LSTM learns simple tunes and writes new ones as MIDI and ABC files.

A token is a pitch with its length. With music21 the tunes are the soprano lines of Bach's chorales;
else they are generated: in C major, with small steps and the tonic at the end.
"""

import random
import struct

import torch
from torch.nn.functional import cross_entropy

import seqfast.nn
from common import BEGIN, END, PAD, Vocabulary, arguments, padded, pyplot, save, shuffled, train

SCALE = [60, 62, 64, 65, 67, 69, 71, 72, 74, 76, 77, 79]  # C major, as MIDI counts


def chorales(count):
    """Soprano lines in C major or A minor, as (pitch, eighths); None without music21."""
    try:
        from music21 import corpus, interval, pitch
    except ImportError:
        return None
    tunes = []
    for score in corpus.chorales.Iterator(1, count, returnType="stream"):
        key = score.analyze("key")
        home = pitch.Pitch("C" if key.mode == "major" else "A")
        line = score.parts[0].transpose(interval.Interval(key.tonic, home)).flatten().notes
        tunes.append([(n.pitch.midi, max(1, round(2 * n.quarterLength))) for n in line])
    return tunes


def made_up(count, rng):
    """Walks on the scale in bars of eight eighths, ending on a long tonic."""
    rhythms = [(2, 2, 2, 2), (4, 2, 2), (3, 1, 2, 2), (2, 1, 1, 2, 2), (4, 4)]
    tunes = []
    for _ in range(count):
        place, tune = rng.choice([0, 2, 4, 7]), []
        for _ in range(3):
            for length in rng.choice(rhythms):
                tune.append((SCALE[place], length))
                place = min(max(place + rng.choice([-2, -1, -1, 0, 1, 1, 2]), 0), len(SCALE) - 1)
        tunes.append([*tune, (SCALE[2], 2), (SCALE[1], 2), (SCALE[0], 4)])
    return tunes


class Composer(torch.nn.Module):
    def __init__(self, tokens, hidden):
        super().__init__()
        self.embedding = torch.nn.Embedding(tokens, 48)
        self.lstm = seqfast.nn.LSTM(48, hidden, num_layers=2, dropout=0.2)
        self.head = torch.nn.Linear(hidden, tokens)

    def forward(self, ids, state=None):
        output, state = self.lstm(self.embedding(ids), state)
        return self.head(output), state


def write_midi(tune, path):
    """One track, 240 ticks an eighth: note on, wait, note off."""
    track = b""
    for pitch, length in tune:
        wait = [0x80 | 240 * length >> 7, 240 * length & 0x7F]  # seven bits a byte
        track += bytes([0, 0x90, pitch, 80, *wait, 0x80, pitch, 0])
    track += bytes([0, 0xFF, 0x2F, 0])
    head = b"MThd" + struct.pack(">IHHH", 6, 0, 1, 480)
    path.write_bytes(head + b"MTrk" + struct.pack(">I", len(track)) + track)


def abc(tune, title):
    names = "C ^C D ^D E F ^F G ^G A ^A B".split()
    notes = [names[p % 12] + ("'" * (p // 12 - 5) if p >= 60 else ",") + str(n) for p, n in tune]
    return f"X:1\nT:{title}\nM:4/4\nL:1/8\nK:C\n{' '.join(notes)} |]\n"


@torch.no_grad()
def improvise(model, vocabulary, longest=60):
    note, state, tune = vocabulary.encode([BEGIN])[:, None], None, []
    while len(tune) < longest:
        logits, state = model(note, state)
        note = torch.multinomial(torch.softmax(logits[0] / 0.8, dim=-1), 1)
        if note.item() <= vocabulary.index[END]:
            break
        tune.append(tuple(map(int, vocabulary.words[note.item()].split("/"))))
    return tune


def main(argv=None):
    args = arguments(__doc__, argv, tunes=600, epochs=15, hidden=128)
    tunes = chorales(args.tunes) or made_up(args.tunes, random.Random(args.seed))
    texts = [[f"{pitch}/{length}" for pitch, length in tune] for tune in tunes]
    vocabulary = Vocabulary((n for text in texts for n in text), (PAD, BEGIN, END))
    sequences = [vocabulary.encode([BEGIN, *text, END]) for text in texts]
    model = Composer(len(vocabulary), args.hidden)

    def loss_of(batch):
        ids, _ = padded(batch)
        logits, _ = model(ids[:-1])
        return cross_entropy(logits.flatten(0, 1), ids[1:].flatten(), ignore_index=0)

    losses = train(model, lambda: shuffled(sequences, 32), loss_of, epochs=args.epochs, lr=4e-3)
    invented = [improvise(model, vocabulary) for _ in range(20)]
    home = sum(tune[-1:] != [] and tune[-1][0] % 12 in (0, 9) for tune in invented)
    print(f"{len(tunes)} tunes, loss {losses[0]:.2f} -> {losses[-1]:.2f}")
    print(f"{home} of {len(invented)} improvisations end on the tonic")
    tune = max(invented, key=len)
    figure, axes = pyplot().subplots(figsize=(9, 3), layout="constrained")
    pitches, lengths = zip(*tune, strict=True)
    axes.barh(pitches, lengths, left=[sum(lengths[:i]) for i in range(len(tune))])
    axes.set(xlabel="eighths", ylabel="pitch (MIDI)", yticks=sorted(set(pitches)))
    save(figure, args, "music")
    write_midi(tune, args.out / "music.mid")
    (args.out / "music.abc").write_text(text := abc(tune, "Improvisation"))
    print(text, f"written: {args.out / 'music.mid'} and .abc", sep="")
    return losses, home, tune


if __name__ == "__main__":
    main()
