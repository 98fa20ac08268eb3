"""Parsing as sequence to sequence: the input is arithmetic, the output has all its brackets.

After Vinyals et al. 2015, "Grammar as a Foreign Language": a tree is written as a sequence, and
a translator with attention learns to write it. "1 + 2 * 3" becomes "( 1 + ( 2 * 3 ) )". With other
pairs the same program learns other tasks, such as summaries.
"""

import random

import torch

from common import BEGIN, END, PAD, Vocabulary, arguments, padded, shuffled, train
from dates import Translator

PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}


def parse(tokens):
    """Brackets around every operation, by climbing precedences; what the network has to learn."""
    position = 0

    def climb(least):
        nonlocal position
        left = [tokens[position]]
        position += 1
        while position < len(tokens) and PRECEDENCE[tokens[position]] >= least:
            operator = tokens[position]
            position += 1
            left = ["(", *left, operator, *climb(PRECEDENCE[operator] + 1), ")"]
        return left

    return climb(1)


def draw(count, rng, operations=(1, 5)):
    found = []
    for _ in range(count):
        tokens = [rng.choice("123456789")]
        for _ in range(rng.randint(*operations)):
            tokens += [rng.choice(list(PRECEDENCE)), rng.choice("123456789")]
        found.append((tokens, parse(tokens)))
    return found


def main(argv=None):
    args = arguments(__doc__, argv, pairs=4000, epochs=10, hidden=96)
    rng = random.Random(args.seed)
    known, test = draw(args.pairs, rng), draw(300, rng)
    source = Vocabulary((t for tokens, _ in known for t in tokens), (PAD,))
    target = Vocabulary((t for _, tree in known for t in tree), (PAD, BEGIN, END))
    model = Translator(len(source), len(target), args.hidden)

    def encode(pairs):
        ids, lengths = padded([source.encode(tokens) for tokens, _ in pairs])
        trees, _ = padded([target.encode([BEGIN, *tree, END]) for _, tree in pairs])
        return ids.t(), lengths, trees.t()

    train(
        model,
        lambda: shuffled(known, 64),
        lambda b: model.loss(*encode(b)),
        epochs=args.epochs,
        lr=4e-3,
    )

    def written(pairs, beam):
        ids, lengths, _ = encode(pairs)
        with torch.no_grad():
            memory = model.memory(ids, lengths)
            found = model.decoder.beam(
                memory, lengths, start=target.index[BEGIN], eos=target.index[END], beam_size=beam,
                max_length=40,
            )  # fmt: skip
        rows = found.tokens[:, 0].clamp(min=0).tolist()
        return [[t for t in target.decode(row) if t not in (PAD, END)] for row in rows]

    found = {}
    for beam in (1, 5):
        trees = written(test, beam)
        found[beam] = sum(a == b for a, (_, b) in zip(trees, test, strict=True)) / len(test)
        print(
            f"beam {beam}: {found[beam]:.1%} of {len(test)} new expressions parsed without a fault"
        )
    for (tokens, _), tree in list(zip(test, trees, strict=True))[:3]:
        print(f"  {' '.join(tokens):22} {' '.join(tree)}")
    return found


if __name__ == "__main__":
    main()
