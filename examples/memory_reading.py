"""Reading comprehension: a question is answered from a memory that attention reads, fact by fact.

After Sukhbaatar et al. 2015, "End-To-End Memory Networks", with generated facts in bAbI's style.
"Where is the ball?" needs two hops: who took the ball, then where that person went last. What a hop
has read is added to the question, so the next hop can look for it. An LSTM that reads all facts and
then the question must keep every fact in its state.
"""

import random
from itertools import pairwise

import torch
from torch.nn.functional import cross_entropy

import seqfast.nn
from common import PAD, Vocabulary, arguments, padded, pyplot, save, shuffled, train

PEOPLE = "Mary John Anna Omar".split()
PLACES = "kitchen garden office hallway cellar".split()
THINGS = "ball book lamp".split()


def story(rng, facts):
    """Facts, a question about a person or a thing, the place that answers it."""
    where, has, told = {}, {}, []
    for person in rng.sample(PEOPLE, 3):
        where[person] = rng.choice(PLACES)
        told.append(f"{person} is in the {where[person]}")
    for thing in rng.sample(THINGS, 2):
        has[thing] = rng.choice(list(where))
        told.append(f"{has[thing]} took the {thing}")
    while len(told) < facts:
        person = rng.choice(list(where))
        where[person] = rng.choice(PLACES)
        told.append(f"{person} went to the {where[person]}")
    if rng.random() < 0.5:
        person = rng.choice(list(where))
        return told, f"where is {person}", where[person]
    thing = rng.choice(list(has))
    return told, f"where is the {thing}", where[has[thing]]


class MemoryReader(torch.nn.Module):
    def __init__(self, words, facts, hidden, hops):
        super().__init__()
        # One more than hops: what is looked for in one hop is what was found in the one before.
        self.words, self.times = (
            torch.nn.ParameterList(0.1 * torch.randn(n, hidden) for _ in range(hops + 1))
            for n in (words, facts)
        )
        self.attention = seqfast.nn.Attention("dot", hidden, hidden)
        self.head = torch.nn.Linear(hidden, len(PLACES))

    def forward(self, facts, questions):  # [batch, facts, words], [batch, words]
        # A fact is the sum of its words, and of a vector for its place in the story.
        pairs = zip(self.words, self.times, strict=True)
        memory = [words[facts].sum(2) + times for words, times in pairs]
        query, looked = self.words[0][questions].sum(1), []
        for keys, values in pairwise(memory):
            both = self.attention.prepare(keys)._replace(values=values)
            found, weights = self.attention(query, both)
            query = query + found
            looked.append(weights)
        return self.head(query), torch.stack(looked)  # weights [hops, batch, facts]


class Plain(torch.nn.Module):
    """The facts and the question, word by word, into one state."""

    def __init__(self, words, hidden):
        super().__init__()
        self.embedding = torch.nn.Embedding(words, hidden)
        self.lstm = seqfast.nn.LSTM(hidden, hidden, batch_first=True)
        self.head = torch.nn.Linear(hidden, len(PLACES))

    def forward(self, facts, questions):
        ids = torch.cat([facts.flatten(1), questions], 1)
        return self.head(self.lstm(self.embedding(ids))[1][0][-1]), None


def main(argv=None):
    args = arguments(__doc__, argv, stories=3000, facts=8, epochs=20, hidden=64)
    rng = random.Random(args.seed)
    stories = [story(rng, args.facts) for _ in range(args.stories + 300)]
    vocabulary = Vocabulary((w for t, q, _ in stories for w in " ".join([*t, q]).split()), (PAD,))
    facts, _ = padded([vocabulary.encode(f.split()) for told, _, _ in stories for f in told])
    facts = facts.t().view(len(stories), -1, len(facts))
    questions = padded([vocabulary.encode(q.split()) for _, q, _ in stories])[0].t()
    answers = torch.tensor([PLACES.index(answer) for _, _, answer in stories])
    sizes = len(vocabulary), facts.shape[1], args.hidden
    models = {f"memory, {n} hop{'s' * (n > 1)}": MemoryReader(*sizes, n) for n in (1, 2, 3)}
    models = {"LSTM, no memory": Plain(len(vocabulary), args.hidden), **models}
    known, found = range(300, len(stories)), {}
    for name, model in models.items():

        def loss_of(rows, model=model):
            rows = torch.tensor(rows)
            return cross_entropy(model(facts[rows], questions[rows])[0], answers[rows])

        train(model, lambda: shuffled(known, 64), loss_of, epochs=args.epochs, lr=5e-3)
        with torch.no_grad():
            logits, weights = model(facts[:300], questions[:300])
        found[name] = (logits.argmax(1) == answers[:300]).float().mean().item()
        print(f"{name:15} {found[name]:6.1%} of 300 questions answered right")
    shown = next(k for k, (_, question, _) in enumerate(stories) if "the" in question)
    told, question, _ = stories[shown]
    print("", *told, f"{question}? {PLACES[int(logits[shown].argmax())]}", sep="\n    ")
    figure, axes = pyplot().subplots(figsize=(7, 3.5), layout="constrained")
    image = axes.imshow(weights[:, shown].t().numpy(), cmap="Blues", aspect="auto", vmin=0, vmax=1)
    figure.colorbar(image, label="attention")
    axes.set_yticks(range(len(told)), told)
    axes.set_xticks(range(len(weights)), [f"hop {k + 1}" for k in range(len(weights))])
    axes.set_title(f"{question}?")
    save(figure, args, "memory_reading")
    return found


if __name__ == "__main__":
    main()
