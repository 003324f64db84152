"""Images as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from perf.loggers.values import as_array

__all__ = ["as_batches"]


def as_batches(image: Any) -> list[np.ndarray]:
    """Images as HWC arrays of bytes.

    Args:
        image: HW, HWC or CHW, or a batch: NHWC or NCHW; three axes are one image where
            the first or last has 1, 3 or 4 entries, a batch of HW otherwise. Bytes, or
            0 … 1.

    Raises:
        ValueError: an array that is none of these.
    """
    array = as_array(image)
    if array.ndim == 2:
        array = array[None, :, :, None]
    elif array.ndim == 3:
        is_one = array.shape[-1] in (1, 3, 4) or array.shape[0] in (1, 3, 4)
        array = array[None] if is_one else array[..., None]
    if array.ndim != 4:
        raise ValueError(f"an image of shape {np.shape(image)}: expected HW, HWC, NHWC")
    if array.shape[-1] not in (1, 3, 4):
        array = array.transpose(0, 2, 3, 1)  # NCHW, as PyTorch has them
    if array.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"an image of shape {np.shape(image)}: expected 1, 3, 4 colors"
        )
    if array.dtype != np.uint8:
        finite = np.nan_to_num(array.astype(np.float64))
        array = (np.clip(finite, 0, 1) * 255).round().astype(np.uint8)
    if array.shape[-1] == 1:
        array = array.repeat(3, axis=-1)
    return list(array)
