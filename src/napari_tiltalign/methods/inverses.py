"""Inverses and determinants of many small covariance matrices at once.

A slab's covariance has to be inverted for every spatial frequency: 10^5 matrices of some 40 x 40 in one alignment.
LAPACK inverts one after the other, at 30 microseconds each. Here the processor's vector units work on many at a time,
which takes a sixth of that.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from napari_tiltalign.images.arrays import module_of

_AT_ONCE = 64
"""Matrices worked on together. Those of 40 views stay in the second cache then."""


def inverses(matrices: Any) -> tuple[Any, Any]:
    """Invert symmetric matrices.

    On the CPU by the sweep operator (Goodnight, Am. Stat. 33, 149-158, 1979), of which the pivots give the determinant.

    Parameters
    ----------
    matrices
        Shape (k, n, n), on the CPU or the GPU: symmetric, positive definite, and with condition numbers far from what
        their type resolves, because no pivots are searched for. Covariances with noise of their own in every
        coefficient are so.

    Returns
    -------
    inverses, log_determinants
        Shapes (k, n, n), of the type given, and (k,), float64. Not finite where a matrix is not positive definite.
    """
    xp = module_of(matrices)
    if xp is not np:
        lower = xp.linalg.cholesky(matrices)  # |K| = product of the squares of its diagonal
        logarithms = xp.log(xp.diagonal(lower, axis1=1, axis2=2)).astype(np.float64)
        return xp.linalg.inv(matrices), 2.0 * logarithms.sum(axis=1)
    count, n = matrices.shape[:2]
    at_once = max(min(_AT_ONCE, count), 1)
    inverted, log_determinants = np.empty_like(matrices), np.zeros(count)
    work, row, scaled = (np.empty((*rows, n, at_once), matrices.dtype) for rows in ((n,), (), ()))
    _invert(matrices, inverted, log_determinants, work, row, scaled)
    return inverted, log_determinants


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def _invert(matrices, inverted, log_determinants, work, row, scaled):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Sweep on all pivots: of the lower triangles the negative inverses are left.

    The innermost loops run over matrices side by side, whose number is not known to the compiler: it makes vector code
    then. One function, because several take twice as long to compile.
    """
    count, n, _ = matrices.shape
    at_once = work.shape[2]
    for start in range(0, count, at_once):
        for m in range(at_once):  # places that are left over get the last matrix again
            for i in range(n):
                for j in range(i + 1):
                    work[i, j, m] = matrices[min(start + m, count - 1), i, j]
        for k in range(n):
            for m in range(min(at_once, count - start)):
                log_determinants[start + m] += np.log(work[k, k, m])
            for i in range(n):
                for m in range(at_once):
                    row[i, m] = work[k, i, m] if i < k else work[i, k, m]
                    scaled[i, m] = row[i, m] / work[k, k, m]
            row[k] = 0
            for i in range(n):
                for j in range(i + 1):
                    for m in range(at_once):
                        work[i, j, m] -= scaled[i, m] * row[j, m]
            for i in range(n):
                for m in range(at_once):
                    if i < k:
                        work[k, i, m] = scaled[i, m]
                    elif i > k:
                        work[i, k, m] = scaled[i, m]
                    else:
                        work[k, k, m] = -1 / work[k, k, m]
        for m in range(min(at_once, count - start)):
            for i in range(n):
                for j in range(i + 1):
                    inverted[start + m, i, j] = inverted[start + m, j, i] = -work[i, j, m]
