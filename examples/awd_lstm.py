"""AWD-LSTM in brief: a word model with every regulariser of Merity, Keskar, Socher 2018.

Weight dropout, variational dropout of inputs and outputs, dropout of whole words, tied weights,
activation regularisation (AR, TAR), stretches of varying length, and averaged weights at the end.
"""

import math

import torch
from torch.nn.functional import cross_entropy
from tqdm import trange

import seqfast.nn
from common import END, UNKNOWN, Vocabulary, arguments, documentation, need, read_text

SOURCE = "text file, a sentence a line, such as WikiText-2's wiki.train.tokens"


class AwdLstm(torch.nn.Module):
    def __init__(self, words, size, hidden, drop):  # drop scales all of them; 0 is a plain LSTM
        super().__init__()
        self.embedding = torch.nn.Embedding(words, size)
        self.words = seqfast.nn.EmbeddingDropout(0.1 * drop, self.embedding)
        self.lstms = torch.nn.ModuleList(
            seqfast.nn.LSTM(n, m, input_dropout=p * drop, weight_dropout=0.4 * drop)
            for n, m, p in ((size, hidden, 0.4), (hidden, hidden, 0.2), (hidden, size, 0.2))
        )
        self.drop = seqfast.nn.LockedDropout(0.4 * drop)
        self.head = torch.nn.Linear(size, words)
        self.head.weight = self.embedding.weight  # tied
        torch.nn.init.uniform_(self.embedding.weight, -0.1, 0.1)

    def forward(self, ids, states):  # [steps, batch] -> logits, what AR and TAR see, states
        x, new = self.words(ids), []
        for lstm, state in zip(self.lstms, states, strict=True):
            x, state = lstm(x, state)
            new.append(tuple(s.detach() for s in state))
        dropped = self.drop(x)
        return self.head(dropped), (x, dropped), new


def stretches(length, mean=35):
    """Random places to cut: about 35 words each, sometimes half, so that edges vary."""
    place = 0
    while place < length - 1:
        usual = mean if torch.rand(()) < 0.95 else mean / 2
        steps = max(5, int(torch.normal(usual, 5.0, ())))
        yield place, min(place + steps, length - 1)
        place += steps


def perplexity(model, rows):
    model.eval()
    total, states = 0.0, [None] * 3
    with torch.no_grad():
        for start in range(0, len(rows) - 1, 35):
            chunk = rows[start : start + 36]
            logits, _, states = model(chunk[:-1], states)
            loss = cross_entropy(logits.flatten(0, 1), chunk[1:].flatten(), reduction="sum")
            total += loss.item()
    return math.exp(total / rows[1:].numel())


def learn_and_judge(model, learn, judge, epochs, regular):
    """Perplexities after each epoch; the weights are averaged in the last quarter."""
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3, weight_decay=1.2e-6)
    average = torch.optim.swa_utils.AveragedModel(model)
    found = []
    for epoch in trange(epochs, unit=" epochs", disable=None):
        model.train()
        states = [None] * 3
        for start, end in stretches(len(learn)):
            logits, seen, states = model(learn[start:end], states)
            loss = cross_entropy(logits.flatten(0, 1), learn[start + 1 : end + 1].flatten())
            penalty = seqfast.nn.activation_regularization(*seen, alpha=2.0, beta=1.0)
            for group in optimizer.param_groups:
                group["lr"] = 4e-3 * (end - start) / 35  # a shorter stretch, a smaller step
            optimizer.zero_grad()
            (loss + regular * penalty).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
            optimizer.step()
            if regular and epoch >= epochs * 3 // 4:
                average.update_parameters(model)
        found.append(perplexity(average.module if average.n_averaged else model, judge))
    return found


def main(argv=None):
    args = arguments(
        __doc__, argv, data=(None, SOURCE), words=40_000, epochs=16, size=128, hidden=192, batch=20
    )
    text = read_text(args.data) if args.data else documentation()
    words = [w for line in text.splitlines() for w in (*line.lower().split(), END)][: args.words]
    need(words, 20 * args.batch, "words")
    vocabulary = Vocabulary(words, (UNKNOWN, END))
    ids = vocabulary.encode(words)
    cut = len(ids) * 9 // 10
    learn, judge = (
        part[: len(part) // args.batch * args.batch].view(args.batch, -1).t().contiguous()
        for part in (ids[:cut], ids[cut:])
    )
    print(f"{cut} words to learn, {len(ids) - cut} held out, {len(vocabulary)} in the vocabulary")
    found = {}
    for name, regular in (("plain", 0), ("AWD", 1)):
        torch.manual_seed(args.seed)
        model = AwdLstm(len(vocabulary), args.size, args.hidden, regular)
        found[name] = learn_and_judge(model, learn, judge, args.epochs, regular)
        best, last = min(found[name]), found[name][-1]
        print(f"{name:5} LSTM: perplexity {best:.1f} at best, {last:.1f} in the end")
    return found


if __name__ == "__main__":
    main()
