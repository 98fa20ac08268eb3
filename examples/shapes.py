"""The four shapes of a sequence model, each on a toy task that it learns in seconds.

many to one    bits -> are most of them ones?        the last state goes to a classifier
one to many    a digit -> its name, letter by letter the input is repeated, the output is a sequence
many to many   bits -> the parity of all so far      an output at every step
two sequences  letters -> the same, backwards        an encoder's state starts a decoder
"""

import torch
from torch.nn.functional import cross_entropy, one_hot

import seqfast.nn
from common import arguments, train

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
LETTERS = "_abcdefghijklmnopqrstuvwxyz"  # _ fills up


class ManyToOne(torch.nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.rnn = seqfast.nn.GRU(2, hidden)
        self.head = torch.nn.Linear(hidden, 2)

    def forward(self, bits, _):  # [steps, batch] -> [1, batch, 2]
        _, last = self.rnn(one_hot(bits, 2).float())
        return self.head(last)


class ManyToMany(ManyToOne):
    def forward(self, bits, _):  # [steps, batch] -> [steps, batch, 2]
        output, _ = self.rnn(one_hot(bits, 2).float())
        return self.head(output)


class OneToMany(torch.nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.rnn = seqfast.nn.GRU(10, hidden)
        self.head = torch.nn.Linear(hidden, len(LETTERS))

    def forward(self, digit, target):  # [1, batch] -> [steps, batch, letters]
        output, _ = self.rnn(one_hot(digit, 10).float().expand(len(target), -1, -1))
        return self.head(output)


class TwoSequences(torch.nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.embedding = torch.nn.Embedding(len(LETTERS), hidden)
        self.encoder = seqfast.nn.LSTM(hidden, hidden)
        self.decoder = seqfast.nn.LSTM(hidden, hidden)
        self.head = torch.nn.Linear(hidden, len(LETTERS))

    def forward(self, source, target):  # [steps, batch] twice -> [steps, batch, letters]
        _, state = self.encoder(self.embedding(source))
        # Teacher forcing: the decoder reads the target, one step late.
        before = torch.cat([torch.zeros_like(target[:1]), target[:-1]])
        output, _ = self.decoder(self.embedding(before), state)
        return self.head(output)


def majority(batch):
    bits = torch.randint(2, (11, batch))
    return bits, (bits.sum(0, keepdim=True) > 5).long()


def names(batch):
    digits = torch.randint(10, (1, batch))
    words = torch.tensor([[LETTERS.index(c) for c in f"{name:_<5}"] for name in NAMES])
    return digits, words[digits[0]].t()


def parity(batch):
    bits = torch.randint(2, (11, batch))
    return bits, bits.cumsum(0) % 2


def reversal(batch):
    letters = torch.randint(1, len(LETTERS), (5, batch))
    return letters, letters.flip(0)


TASKS = {
    "many to one": (ManyToOne, majority),
    "one to many": (OneToMany, names),
    "many to many": (ManyToMany, parity),
    "two sequences": (TwoSequences, reversal),
}


def main(argv=None):
    args = arguments(__doc__, argv, hidden=64, epochs=15, steps=60, batch=64)
    accuracies = {}
    for name, (kind, draw) in TASKS.items():
        model = kind(args.hidden)

        def loss_of(batch, model=model):
            source, target = batch
            return cross_entropy(model(source, target).flatten(0, 1), target.flatten())

        def batches(draw=draw):
            return (draw(args.batch) for _ in range(args.steps))

        train(model, batches, loss_of, epochs=args.epochs, lr=5e-3)
        source, target = draw(1000)
        with torch.no_grad():
            found = model(source, target).argmax(-1)
        accuracies[name] = (found == target).all(0).float().mean().item()
        sizes = f"{list(source.shape)} -> {list(target.shape)}"
        print(f"{name:14} {sizes:22} {accuracies[name]:6.1%} of 1,000 sequences right to the last")
    return accuracies


if __name__ == "__main__":
    main()
