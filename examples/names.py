"""New names, letter by letter: a GRU reads a list of names and then makes up more of them.

The list has dinosaurs, after Andrew Ng's exercise; any list with one name per line works. The
temperature divides the logits before the softmax: low gives likely names, high unusual ones.
"""

from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

import seqfast.nn
from common import BEGIN, END, PAD, Vocabulary, arguments, need, padded, read_text, shuffled, train


class Names(torch.nn.Module):
    def __init__(self, letters, hidden):
        super().__init__()
        self.embedding = torch.nn.Embedding(letters, 32)
        self.rnn = seqfast.nn.GRU(32, hidden)
        self.head = torch.nn.Linear(hidden, letters)

    def forward(self, ids, state=None):  # [steps, batch] -> [steps, batch, letters]
        output, state = self.rnn(self.embedding(ids), state)
        return self.head(output), state


@torch.no_grad()
def make_up(model, vocabulary, temperature, longest=25):
    """Draws one letter after the other; each is the next input."""
    letter, state, name = vocabulary.encode([BEGIN])[:, None], None, []
    while len(name) < longest:
        logits, state = model(letter, state)
        probabilities = torch.softmax(logits[0] / temperature, dim=-1)
        letter = torch.multinomial(probabilities, 1)
        if letter.item() == vocabulary.index[END]:
            break
        name.append(letter.item())
    return "".join(vocabulary.decode(name))


def main(argv=None):
    args = arguments(
        __doc__,
        argv,
        names=(Path(__file__).parent / "dinosaurs.txt", "file with a name a line"),
        epochs=40,
        hidden=128,
        count=(8, "names to make up at each temperature"),
    )
    names = sorted({line.strip().lower() for line in read_text(args.names).splitlines()} - {""})
    need(names, 2, "names")
    vocabulary = Vocabulary((c for name in names for c in name), (PAD, BEGIN, END))
    sequences = [vocabulary.encode([BEGIN, *name, END]) for name in names]
    held_out, known = sequences[::10], [s for i, s in enumerate(sequences) if i % 10]
    print(f"{len(known)} names to learn, {len(held_out)} held out, {len(vocabulary)} letters")
    model = Names(len(vocabulary), args.hidden)

    def loss_of(batch):
        ids, _ = padded(batch)
        logits, _ = model(ids[:-1])
        return cross_entropy(logits.flatten(0, 1), ids[1:].flatten(), ignore_index=0)

    def perplexity():
        return loss_of(held_out).exp().item()

    train(
        model,
        lambda: shuffled(known, 16),
        loss_of,
        epochs=args.epochs,
        lr=4e-3,
        score=lambda: -perplexity(),
        patience=6,
    )
    with torch.no_grad():
        found = perplexity()
    print(f"perplexity of a letter, held out: {found:.2f} (guessing blindly: {len(vocabulary)})")
    made = {}
    for temperature in (0.3, 0.7, 1.2):
        made[temperature] = [make_up(model, vocabulary, temperature) for _ in range(args.count)]
        new = sum(name not in names for name in made[temperature])
        print(f"temperature {temperature}: {', '.join(made[temperature])} ({new} are new)")
    return found, made


if __name__ == "__main__":
    main()
