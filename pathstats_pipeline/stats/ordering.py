"""Rows brought into order by group: what both sketches do first.

A group is a small integer, 0 to n_groups - 1. What is here knows nothing of latencies or visitors.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

_RADIX_BITS: Final = 16
"""numpy's stable argsort is a radix sort for 16-bit integers only, four times as fast as any other."""


def partition(groups: npt.NDArray[Any], n_groups: int) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.int64]]:
    """Order that brings rows of one group together, and where each group begins.

    `groups` [row] holds 0 to n_groups - 1. The order is None where the rows already stand so; the offsets have
    n_groups + 1 entries. Raises ValueError for a group out of range.
    """
    if groups.size and (int(groups.min()) < 0 or int(groups.max()) >= n_groups):
        raise ValueError(f"groups must be 0 to {n_groups - 1}, got {int(groups.min())} to {int(groups.max())}")
    offsets = offsets_of(np.bincount(groups, minlength=n_groups))
    if bool(np.all(groups[1:] >= groups[:-1])):
        return None, offsets
    order = np.argsort(groups.astype(np.uint16), kind="stable")
    rest = groups >> _RADIX_BITS
    while bool(rest.any()):
        order = order[np.argsort(rest[order].astype(np.uint16), kind="stable")]
        rest = rest >> _RADIX_BITS
    return order, offsets


def offsets_of(sizes: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Borders of consecutive segments of these sizes: one entry more than there are segments, from 0."""
    offsets = np.zeros(sizes.size + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    return offsets


def sort_within(
    values: npt.NDArray[Any], groups: npt.NDArray[Any], n_groups: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Values [row] sorted by (group, value) in a new array, and the group offsets [n_groups + 1]."""
    order, offsets = partition(groups, n_groups)
    values = values.copy() if order is None else values[order]
    sort_segments(values, offsets)
    return values, offsets


def sort_segments(values: npt.NDArray[Any], offsets: npt.NDArray[np.int64]) -> None:
    """Sort values [row], which stand by group, within their groups and in place."""
    # One call a group beats one sort over (group, value) pairs: each segment is sorted in cache, by SIMD.
    several = np.flatnonzero(np.diff(offsets) > 1)
    for begin, end in zip(offsets[several].tolist(), offsets[several + 1].tolist(), strict=True):
        values[begin:end].sort()


def argsort_within(
    values: npt.NDArray[Any], groups: npt.NDArray[Any], n_groups: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Order [row] by (group, value), and the group offsets [n_groups + 1]. Equal values come in no promised order."""
    order, offsets = partition(groups, n_groups)
    if order is None:
        order = np.arange(values.size, dtype=np.int64)
    several = np.flatnonzero(np.diff(offsets) > 1)
    for begin, end in zip(offsets[several].tolist(), offsets[several + 1].tolist(), strict=True):
        segment = order[begin:end]
        order[begin:end] = segment[np.argsort(values[segment])]
    return order, offsets


def run_starts(values: npt.NDArray[Any], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where a new value begins, in values sorted within their groups: a group's first value always does."""
    fresh = np.ones(values.size, np.bool_)
    np.not_equal(values[1:], values[:-1], out=fresh[1:])
    begins = offsets[:-1]
    fresh[begins[begins < values.size]] = True
    return np.flatnonzero(fresh)


def regroup(starts: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Group offsets counted in runs, from run starts and group offsets counted in rows."""
    return np.searchsorted(starts, offsets).astype(np.int64)
