"""The task: sort a handful of digits. A checker, not a model, gives the reward."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, slots=True)
class SortTask:
    """Given `length` symbols of an alphabet of `symbols`, write them in order."""

    length: int = 5
    symbols: int = 10

    def prompts(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draws prompts.

        Returns:
            int32 [count, length], each entry in 0 … symbols - 1.
        """
        return rng.integers(self.symbols, size=(count, self.length), dtype=np.int32)

    def rewards(self, prompts: np.ndarray, completions: np.ndarray) -> np.ndarray:
        """Says how much of each completion is right.

        A reward for the whole answer alone would be 0 for nearly all that a random
        policy writes: no difference within a group, nothing to learn from.

        Args:
            prompts: int [count, length].
            completions: int [count, length], the policy's answers, row by row.

        Returns:
            float32 [count]: the fraction of places that hold the right symbol, 0 … 1.
        """
        right = completions == np.sort(prompts, axis=1)
        rewards: np.ndarray = right.mean(axis=1, dtype=np.float32)
        return rewards

    def texts(self, sequences: np.ndarray) -> list[str]:
        """Spells sequences out.

        Args:
            sequences: int [count, length], prompts or completions.

        Returns:
            One text per row, like "3 1 4 1 5".
        """
        return [" ".join(map(str, row)) for row in sequences.tolist()]
