"""Captions for images: a convolutional encoder sees a digit, an LSTM writes "a three".

After Vinyals et al. 2015, "Show and Tell", on the handwritten digits that scikit-learn ships. The
encoder's vector is the decoder's first state; a beam search writes the caption.
"""

import torch
from torch.nn.functional import cross_entropy

import seqfast
import seqfast.nn
from common import BEGIN, END, PAD, Vocabulary, arguments, padded, pyplot, save, shuffled, train

NAMES = "zero one two three four five six seven eight nine".split()


def caption(digit, ink):
    """What is on the picture, and how it is drawn."""
    article = "an" if NAMES[digit] == "eight" else "a"
    return f"{article} {NAMES[digit]} drawn with {'a thick' if ink else 'a thin'} pen".split()


class Captioner(torch.nn.Module):
    def __init__(self, words, hidden=96):
        super().__init__()
        self.encoder = torch.nn.Sequential(
            torch.nn.Conv2d(1, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
            torch.nn.Conv2d(16, 32, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(),
            torch.nn.Linear(32 * 16, hidden), torch.nn.LayerNorm(hidden),
        )  # fmt: skip
        self.embedding = torch.nn.Embedding(words, 32)
        self.lstm = seqfast.nn.LSTM(32, hidden)
        self.head = torch.nn.Linear(hidden, words)

    def start(self, images):  # [batch, 8, 8] -> the decoder's first state, twice [batch, hidden]
        seen = self.encoder(images[:, None])
        return seen, seen

    def forward(self, ids, state):  # [steps, batch] -> [steps, batch, words]
        output, state = self.lstm(self.embedding(ids), tuple(s[None] for s in state))
        return self.head(output), tuple(s[0] for s in state)


def main(argv=None):
    from sklearn.datasets import load_digits

    args = arguments(__doc__, argv, epochs=12)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32) / 8 - 1
    thick = images.mean((1, 2)) > images.mean((1, 2)).median()
    texts = [caption(d, t) for d, t in zip(digits.target, thick, strict=True)]
    vocabulary = Vocabulary((w for text in texts for w in text), (PAD, BEGIN, END))
    pairs = [
        (image, vocabulary.encode([BEGIN, *text, END]), text)
        for image, text in zip(images, texts, strict=True)
    ]
    known, test = pairs[300:], pairs[:300]
    model = Captioner(len(vocabulary))

    def loss_of(batch):
        ids, _ = padded([ids for _, ids, _ in batch])
        logits, _ = model(ids[:-1], model.start(torch.stack([image for image, _, _ in batch])))
        return cross_entropy(logits.flatten(0, 1), ids[1:].flatten(), ignore_index=0)

    train(model, lambda: shuffled(known, 32), loss_of, epochs=args.epochs, lr=4e-3)

    def step(ids, state, t):
        logits, state = model(ids[None], state)
        return logits[0], state

    search = seqfast.BeamSearch(beam_size=3, eos=vocabulary.index[END], max_length=10)
    with torch.no_grad():
        state = model.start(torch.stack([image for image, _, _ in test]))
        found = search(step, torch.full((len(test),), vocabulary.index[BEGIN]), state)
    written = [
        [w for w in vocabulary.decode(row) if w not in (PAD, BEGIN, END)]
        for row in found.tokens[:, 0].clamp(min=0).tolist()
    ]
    digit = sum(w[1:2] == t[1:2] for w, (_, _, t) in zip(written, test, strict=True)) / len(test)
    whole = sum(w == t for w, (_, _, t) in zip(written, test, strict=True)) / len(test)
    print(f"{len(test)} new images: digit right {digit:.1%}, whole caption right {whole:.1%}")
    figure, axes = pyplot().subplots(2, 4, figsize=(10, 4.5), layout="constrained")
    for axis, words, (image, _, _) in zip(axes.flat, written, test, strict=False):
        axis.imshow(image.numpy(), cmap="Greys")
        axis.set_title(" ".join(words).replace(" drawn", "\ndrawn"), fontsize=9)
        axis.axis("off")
    save(figure, args, "captions")
    return digit, whole


if __name__ == "__main__":
    main()
