"""Sequences of tokens as one automaton, which knows of any text what of them it has just read."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_MOST_CELLS = 1 << 28  # of the table: a gigabyte


class Automaton:
    """Of Aho and Corasick (1975): a trie whose nodes know where a text goes on that leaves it.

    Node 0 has read nothing of any sequence. Tokens of no sequence are one class, 0.

    - `classes` int32 [vocabulary]: the class of each token.
    - `next` int32 [nodes, classes]: the node after a token of that class.
    - `ended`: of each node the numbers of the sequences that end with the text read, if any.
    - `paths`: of each node, for every sequence that the text read may be going through, its number
      and how many of its tokens stand read; the longest first.
    """

    def __init__(self, sequences: Sequence[Sequence[int]], vocabulary: int) -> None:
        used = sorted({token for sequence in sequences for token in sequence})
        self.classes = np.zeros(vocabulary, np.int32)
        self.classes[used] = np.arange(1, len(used) + 1)
        width = len(used) + 1
        children: list[dict[int, int]] = [{}]
        own: list[list[tuple[int, int]]] = [[]]  # what passes here: sequence, tokens read
        ends: list[list[int]] = [[]]
        for number, sequence in enumerate(sequences):
            node = 0
            for read, token in enumerate(sequence, 1):
                step = int(self.classes[token])
                if step not in children[node]:
                    children[node][step] = len(children)
                    children.append({})
                    own.append([])
                    ends.append([])
                node = children[node][step]
                own[node].append((number, read))
            ends[node].append(number)
        if len(children) * width > _MOST_CELLS:
            raise ValueError(
                f"constraints: {len(children)} beginnings of {width - 1} different tokens are too "
                "many for one table; give fewer sequences"
            )
        self.next = np.zeros((len(children), width), np.int32)
        behind = [0] * len(children)  # the longest proper suffix that is a node
        queue: deque[int] = deque()
        for step, child in children[0].items():
            self.next[0, step] = child
            queue.append(child)
        while queue:
            node = queue.popleft()
            own[node] += own[behind[node]]
            ends[node] += ends[behind[node]]
            self.next[node] = self.next[behind[node]]
            for step, child in children[node].items():
                behind[child] = int(self.next[behind[node], step])
                self.next[node, step] = child
                queue.append(child)
        self.paths, self.ended = own, ends

    @property
    def nodes(self) -> int:
        return len(self.next)

    def completing(self) -> list[list[int]]:
        """Of each node the tokens that complete a sequence."""
        tokens = np.flatnonzero(self.classes)
        by_class = np.zeros(self.next.shape[1], np.int64)
        by_class[self.classes[tokens]] = tokens
        ending = np.array([bool(found) for found in self.ended])
        return [
            by_class[np.flatnonzero(ending[row] & (np.arange(len(row)) > 0))].tolist()
            for row in self.next
        ]
