"""Tensors for tests, without PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np


class Tensor:
    """As much of a tensor of PyTorch as is looked at."""

    def __init__(self, values: Any, *, is_bfloat16: bool = False) -> None:
        self.values = np.asarray(values)
        self.is_bfloat16, self.requires_grad, self.device = is_bfloat16, True, "cuda"

    def _like(self, **changes: Any) -> Tensor:
        other = Tensor(self.values.copy())
        vars(other).update({**vars(self), "values": other.values, **changes})
        return other

    def detach(self) -> Tensor:
        """Without gradients."""
        return self._like(requires_grad=False)

    def cpu(self) -> Tensor:
        """On the host."""
        return self._like(device="cpu")

    def clone(self) -> Tensor:
        """A copy."""
        return self._like()

    def float(self) -> Tensor:
        """As float32."""
        return self._like(is_bfloat16=False)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        if self.requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        if self.device != "cpu" or self.is_bfloat16:
            raise TypeError("can't convert")
        return self.values
