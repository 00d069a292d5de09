"""Ridge regression of labels on features, one for each target over the same features.

``beta = X'(X X' + lambda I)^-1 (y - mean y)`` with X and y less their means, or the same by ``(X'X + lambda I)^-1 X'y``
where that matrix is the smaller one; one factorisation serves all targets.

Shapes: n labelled rows, N rows, D features, S targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Ridge:
    """A fitted regression.

    Attributes:
        mean_D: Mean of the features.
        coefficients_DS: Coefficients by target.
        mean_S: Mean of the labels.
        held_out_S: Correlation of the labels with what the other rows predict of each; NaN where one is constant.
    """

    mean_D: Floats
    coefficients_DS: Floats
    mean_S: Floats
    held_out_S: Floats

    def predict(self, features_ND: npt.NDArray[np.floating]) -> Floats:
        """Labels of rows by target, shape [N, S]."""
        return np.asarray(features_ND @ self.coefficients_DS + (self.mean_S - self.mean_D @ self.coefficients_DS))


def fit(features_nD: Floats, labels_nS: Floats, penalty: float) -> Ridge:
    """Fit labels.

    Args:
        features_nD: Features, finite.
        labels_nS: Labels, finite; at least two rows.
        penalty: lambda, above 0.
    """
    rows, width = features_nD.shape
    mean_D, mean_S = features_nD.mean(axis=0), labels_nS.mean(axis=0)
    x_nD, y_nS = features_nD - mean_D, labels_nS - mean_S
    same_S = np.abs(y_nS).max(axis=0) <= _ROUNDING * np.abs(labels_nS).max(axis=0)
    y_nS = np.where(same_S, 0.0, y_nS)  # where all labels are the same, so is every score, to the last bit
    if rows <= width:
        inverse_nn = np.linalg.inv(x_nD @ x_nD.T + penalty * np.eye(rows))
        dual_nS = inverse_nn @ y_nS
        coefficients_DS, left_nS = x_nD.T @ dual_nS, penalty * dual_nS
        leverage_n = 1 - penalty * np.diagonal(inverse_nn)
    else:
        inverse_DD = np.linalg.inv(x_nD.T @ x_nD + penalty * np.eye(width))
        coefficients_DS = inverse_DD @ (x_nD.T @ y_nS)
        left_nS = y_nS - x_nD @ coefficients_DS
        leverage_n = np.einsum("nd,de,ne->n", x_nD, inverse_DD, x_nD, optimize=True)
    # What is left of a row's label if it is left out of the fit, the mean included.
    left_out_nS = left_nS / np.maximum(1 - leverage_n - 1 / rows, 1e-12)[:, None]
    return Ridge(mean_D, coefficients_DS, mean_S, _correlations(y_nS, y_nS - left_out_nS))


def _correlations(a_nS: Floats, b_nS: Floats) -> Floats:
    a_nS, b_nS = a_nS - a_nS.mean(axis=0), b_nS - b_nS.mean(axis=0)
    lengths_S = np.linalg.norm(a_nS, axis=0) * np.linalg.norm(b_nS, axis=0)
    return np.where(lengths_S > 0, (a_nS * b_nS).sum(axis=0) / np.where(lengths_S > 0, lengths_S, 1.0), np.nan)
