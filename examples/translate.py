"""English to French: an encoder, attention, beam search, BLEU, and errors of model and search.

Sutskever et al. 2014, Luong et al. 2015. --data takes sentence pairs with a tab between; without it
the pairs are generated. The model must learn the order of adjectives and the gender of articles.
"""

import random
import re
import sys

import torch

import common
from common import BEGIN, END, PAD, UNKNOWN, Vocabulary, padded, shuffled, train
from dates import Translator
from seqfast import decoding

SOURCE = "fra.txt: English, tab, French (http://www.manythings.org/anki/fra-eng.zip)"
NOUNS = {"house": "la maison", "car": "la voiture", "dog": "le chien", "book": "le livre",
         "garden": "le jardin", "boat": "le bateau", "door": "la porte"}  # fmt: skip
ADJECTIVES = {"red": "rouge", "empty": "vide", "strange": "étrange", "famous": "célèbre"}
VERBS = {"sees": "voit", "sells": "vend", "loves": "aime", "paints": "peint"}
NAMES = ("Marie", "Paul", "Louise", "Hugo")


def made_up(count, rng):
    """Sentences such as "Paul sees the red house today", and their translations."""
    found = set()
    while len(found) < count:
        name, verb, noun = rng.choice(NAMES), rng.choice(list(VERBS)), rng.choice(list(NOUNS))
        words = rng.sample(list(ADJECTIVES), rng.randint(0, 2))
        english = [name, verb, "the", *words, noun]
        french = [name, VERBS[verb], NOUNS[noun], *(ADJECTIVES[w] for w in words[::-1])]
        end = rng.choice([("", ""), (" today", " aujourd'hui")])
        found.add((" ".join(english) + f"{end[0]} .", " ".join(french) + f"{end[1]} ."))
    return sorted(found)


def load(args, rng):
    if args.data is None:
        pairs = made_up(1200, rng)
    else:
        lines = [line for line in common.read_text(args.data).lower().splitlines() if "\t" in line]
        rows = (re.sub(r"([.,!?])", r" \1 ", line).split("\t")[:2] for line in lines)
        pairs = [(a, b) for a, b in rows if len(a.split()) <= args.longest]
    rng.shuffle(pairs)
    once = [(a.split(), b.split()) for a, b in dict(pairs).items()]  # a translation of each
    if len(once) <= 400:
        sys.exit(f"{args.data}: more than 400 pairs with a tab between are needed, got {len(once)}")
    return once[400:][: args.pairs], once[:400]


def main(argv=None):
    args = common.arguments(
        __doc__, argv, data=(None, SOURCE), pairs=20000, longest=8, epochs=6, hidden=192
    )
    known, test = load(args, random.Random(args.seed))
    source = Vocabulary((w for s, _ in known for w in s), (PAD, UNKNOWN))
    target = Vocabulary((w for _, t in known for w in t), (PAD, UNKNOWN, BEGIN, END))
    sizes = f"{len(source)} and {len(target)} words"
    print(f"{len(known)} pairs to learn, {len(test)} to test; {sizes}")
    model = Translator(len(source), len(target), args.hidden, 128, 0.2)

    def encode(pairs):
        ids, lengths = padded([source.encode(s) for s, _ in pairs])
        answers, _ = padded([target.encode([BEGIN, *t, END]) for _, t in pairs])
        return ids.t(), lengths, answers.t()

    train(
        model,
        lambda: shuffled(known, 64),
        lambda b: model.loss(*encode(b)),
        epochs=args.epochs,
        lr=2e-3,
    )
    ids, lengths, answers = encode(test)
    scores, reference = {}, [" ".join(t) for _, t in test]
    with torch.no_grad():
        memory = model.memory(ids, lengths)
        for beam in (1, 5):
            found = model.decoder.beam(
                memory,
                lengths,
                start=target.index[BEGIN],
                eos=target.index[END],
                beam_size=beam,
                max_length=30,
            )
            rows = found.tokens[:, 0].clamp(min=0).tolist()
            said = [" ".join(w for w in target.decode(r) if w not in (PAD, END)) for r in rows]
            scores[beam] = decoding.bleu(said, reference).score
            print(f"beam {beam}: BLEU {scores[beam]:.1f}")
    for k in range(4):
        print(f"  {' '.join(test[k][0])}\n    -> {said[k]}\n    :: {reference[k]}")

    def logprobs(_, sequences, sizes):
        """The model's log-probabilities of translations that end in END."""
        ids = torch.cat([answers[:, :1], torch.as_tensor(sequences).clamp(min=0)], 1)
        within = torch.arange(ids.shape[1] - 1) < torch.as_tensor(sizes)[:, None]
        with torch.no_grad():
            logits = model.decoder(ids[:, :-1], memory, lengths)[0].log_softmax(-1)
        return (logits.gather(2, ids[:, 1:, None])[:, :, 0] * within).sum(1).numpy()

    wanted = [[target.index.get(w, 1) for w in (*t, END)] for _, t in test]
    print("whose fault:", faults := decoding.error_analysis(logprobs, None, wanted, found))
    return scores, faults


if __name__ == "__main__":
    main()
