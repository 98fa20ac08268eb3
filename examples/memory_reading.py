"""Reading comprehension: a question is answered from a memory that attention reads, fact by fact.

After Sukhbaatar et al. 2015, "End-To-End Memory Networks", with generated facts in bAbI's style.
Each fact is a vector in a memory; in each hop the question attends to the relevant fact.
"Where is the ball?" needs two hops: who has the ball, then where that person went last.
"""

import random

import torch
from torch.nn.functional import cross_entropy

import seqfast.nn
from common import PAD, Vocabulary, arguments, padded, pyplot, save, shuffled, train

PEOPLE = "Mary John Anna Omar".split()
PLACES = "kitchen garden office hallway cellar".split()
THINGS = "ball book lamp".split()


def story(rng, facts=8):
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
    def __init__(self, words, answers, hidden, hops):
        super().__init__()
        self.hops = hops
        self.embedding = torch.nn.Embedding(words, 32)
        self.fact = seqfast.nn.GRU(32, hidden)  # a sentence to a vector
        self.order = seqfast.nn.GRU(hidden, hidden, batch_first=True)  # a fact knows those before
        self.attention = seqfast.nn.Attention("general", hidden, hidden)
        self.update = seqfast.nn.GRUCell(hidden, hidden)
        self.head = torch.nn.Linear(hidden, answers)

    def read(self, sentences):
        ids, lengths = padded(sentences)
        return self.fact(self.embedding(ids), lengths=lengths)[1][0]

    def forward(self, facts, questions):  # -> [batch, answers], weights [hops, batch, facts]
        vectors = self.read([fact for story in facts for fact in story])
        memory, _ = self.order(vectors.view(len(facts), -1, vectors.shape[1]))
        query, weights = self.read(questions), []
        for _ in range(self.hops):
            context, looked = self.attention(query, memory)
            query = self.update(context, query)
            weights.append(looked)
        return self.head(query), torch.stack(weights)


def main(argv=None):
    args = arguments(__doc__, argv, stories=3000, epochs=20, hidden=64)
    rng = random.Random(args.seed)
    stories = [story(rng) for _ in range(args.stories + 300)]
    vocabulary = Vocabulary((w for t, q, _ in stories for w in " ".join([*t, q]).split()), (PAD,))

    def encode(told, question, answer):
        facts = [vocabulary.encode(fact.split()) for fact in told]
        return facts, vocabulary.encode(question.split()), PLACES.index(answer)

    data = [encode(*s) for s in stories]
    known, test = data[300:], data[:300]
    found = {}
    for hops in (1, 3):
        torch.manual_seed(args.seed)
        model = MemoryReader(len(vocabulary), len(PLACES), args.hidden, hops)

        def answers(batch, model=model):
            return model([facts for facts, _, _ in batch], [question for _, question, _ in batch])

        def loss_of(batch):
            return cross_entropy(
                answers(batch)[0], torch.tensor([answer for _, _, answer in batch])
            )

        train(model, lambda: shuffled(known, 64), loss_of, epochs=args.epochs, lr=5e-3)
        with torch.no_grad():
            logits, weights = answers(test)
        right = logits.argmax(1) == torch.tensor([answer for _, _, answer in test])
        found[hops] = right.float().mean().item()
        print(f"hops: {hops}; {found[hops]:.1%} of {len(test)} questions answered right")
    told, question, _ = stories[0]
    print(*told, f"{question}? {PLACES[int(logits[0].argmax())]}", sep="\n    ")
    figure, axes = pyplot().subplots(figsize=(7, 3.5), layout="constrained")
    axes.imshow(weights[:, 0].t().numpy(), cmap="Blues", aspect="auto")
    axes.set_yticks(range(len(told)), told)
    axes.set_xticks(range(3), ["hop 1", "hop 2", "hop 3"])
    axes.set_title(f"{question}?")
    save(figure, args, "memory_reading")
    return found


if __name__ == "__main__":
    main()
