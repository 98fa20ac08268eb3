"""A small language in which some words are the same but for their spelling."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

TWINS = [(f"left{k}", f"right{k}") for k in range(8)]
FILLERS = ["the", "of", "and", "to", "in"]


def sentences(count: int = 600, seed: int = 0) -> list[list[str]]:
    """Each is about one pair of twins, of which either may come, among words of their topic."""
    generator = random.Random(seed)
    made = []
    for _ in range(count):
        topic = generator.randrange(len(TWINS))
        words = [
            f"topic{topic}{generator.choice('abcdef')}"
            if generator.random() < 0.7
            else generator.choice(FILLERS)
            for _ in range(generator.randint(3, 8))
        ]
        words.insert(generator.randint(1, len(words) - 1), generator.choice(TWINS[topic]))
        made.append(words)
    return made


def text(count: int = 600, seed: int = 0) -> str:
    return "".join(" ".join(sentence) + "\n" for sentence in sentences(count, seed))


def twins_found(model: Any) -> float:
    """The share of twins whose nearest neighbour among all twins is their own."""
    words = [word for pair in TWINS for word in pair]
    vectors = np.stack([model[word] for word in words]).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    return float(np.mean(cosines.argmax(1) == np.arange(len(words)) ^ 1))
