"""Fit the context-conditional Bradley-Terry model: convex, deterministic, in torch float64.

    r(s, p)        = (w + U (c(s) - mean c)) . a(s, p)
    P(a before b)  = sigmoid(r(s, a) - r(s, b) + left * [a on the left: +1, b on the left: -1])
    loss           = mean over judgments of -log P(what was chosen)
                     + (ridge_w |w|^2 + ridge_u |U|^2) / 2

`left` takes up the bias for the left one while fitting, has no ridge, and is dropped when scoring.
The loss is a mean, so the same data twice gives the same weights; only the standard errors shrink.
The minimum is found by Newton's method with halving, several problems at once (folds, ridges,
bootstrap samples differ only in their row weights and ridges).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harmgym.errors import JudgmentError, MissingDependencyError
from harmgym.preferences.features import Pairs, folds
from harmgym.reward.context import context_features
from harmgym.tasks.rubric import ATTRIBUTES

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.float64]
SIZE = len(ATTRIBUTES)
RIDGES_W = (1e-4, 1e-2)
RIDGES_U = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Fit:
    """One fitted model.

    Attributes: w (8,), u (8, k), left (log-odds for the left one), centre (k,), standard_errors of
    w (8,), from the curvature of the summed loss; ridge (ridge_w, ridge_u); loss (mean, nats).
    """

    w: Array
    u: Array
    left: float
    centre: Array
    standard_errors: Array
    ridge: tuple[float, float]
    loss: float

    def logits(self, pairs: Pairs, context: str) -> Array:
        """Return r(a) - r(b) (n,), without the bias for the left one."""
        shift = context_features(context, pairs.flags) - self.centre
        weights = self.w + shift @ self.u.T
        logits: Array = np.sum(weights * (pairs.a - pairs.b), axis=1)
        return logits


def require_torch() -> ModuleType:
    """Return the torch module. Raises: MissingDependencyError with the command that installs it."""
    try:
        import torch
    except ImportError:
        raise MissingDependencyError(
            'training a reward model needs torch: pip install "harmgym[reward]"'
        ) from None
    return torch


def design(pairs: Pairs, context: str, centre: Array) -> Array:
    """Return the rows (n, 8 + 8 k + 1): differences, differences x context, left."""
    difference = pairs.a - pairs.b
    shift = context_features(context, pairs.flags) - centre
    crossed = (difference[:, :, None] * shift[:, None, :]).reshape(len(pairs), -1)
    return np.concatenate([difference, crossed, pairs.left[:, None]], axis=1)


def penalties(width: int, ridge_w: float, ridge_u: float) -> Array:
    """Return the ridge of each column (8 + 8 k + 1,); the last one, left, has none but a trace that
    keeps it finite.
    """
    return np.concatenate([np.full(SIZE, ridge_w), np.full(width - SIZE - 1, ridge_u), [1e-9]])


def mean_loss(x: Array, chose_a: NDArray[np.bool_], theta: Array, ridge: Array) -> float:
    """Return the loss that is minimised, in nats, for parameters theta; the plain formula, in
    numpy.
    """
    signed = np.where(chose_a, 1.0, -1.0) * (x @ theta)
    return float(np.mean(np.logaddexp(0.0, -signed)) + 0.5 * np.sum(ridge * theta**2))


def solve(
    x: Array, chose_a: NDArray[np.bool_], weights: Array, ridges: Array, start: Array | None = None
) -> tuple[Array, Array]:
    """Minimise the loss for B problems that share their rows.

    x (n, p); weights (B, n), how often each row counts; ridges and start (B, p). Returns theta (B,
    p) and the curvature (B, p, p) of the mean loss with ridge. Raises: JudgmentError when the
    minimum is not reached.
    """
    torch = require_torch()
    with _one_thread(torch):
        return _solve_all(torch, x, chose_a, weights, ridges, start)


@contextlib.contextmanager
def _one_thread(torch: ModuleType) -> Iterator[None]:
    """Problems this small lose time to a second thread, and one thread always adds up in the same
    order.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _solve_all(
    torch: ModuleType,
    x: Array,
    chose_a: NDArray[np.bool_],
    weights: Array,
    ridges: Array,
    start: Array | None,
) -> tuple[Array, Array]:
    rows, y = torch.from_numpy(x), torch.from_numpy(chose_a.astype(np.float64))
    share = torch.from_numpy(weights / weights.sum(axis=1, keepdims=True))
    ridge = torch.from_numpy(ridges)
    thetas, curvatures = [], []
    for at in range(len(weights)):
        first = (
            torch.zeros(x.shape[1], dtype=torch.float64)
            if start is None
            else torch.from_numpy(start[at])
        )
        theta, curvature = _newton(torch, rows, y, share[at], ridge[at], first)
        thetas.append(theta.numpy())
        curvatures.append(curvature.numpy())
    return np.stack(thetas), np.stack(curvatures)


def _newton(
    torch: ModuleType, rows: Tensor, y: Tensor, share: Tensor, ridge: Tensor, theta: Tensor
) -> tuple[Tensor, Tensor]:
    kept = share > 0
    rows, y, share = rows[kept], y[kept], share[kept]

    def value(theta: Tensor) -> float:
        odds = rows @ theta
        loss = (share * (torch.nn.functional.softplus(odds) - y * odds)).sum()
        return float(loss + 0.5 * (ridge * theta**2).sum())

    for _ in range(60):
        chance = torch.sigmoid(rows @ theta)
        gradient = rows.T @ (share * (chance - y)) + ridge * theta
        curvature = (rows * (share * chance * (1 - chance))[:, None]).T @ rows + torch.diag(ridge)
        if float(gradient.abs().max()) < TOLERANCE:
            return theta, curvature
        step = torch.linalg.solve(
            curvature + 1e-12 * torch.eye(len(theta), dtype=torch.float64), gradient
        )
        size, now = 1.0, value(theta)
        while size > 1e-6 and value(theta - size * step) > now + 1e-15:
            size /= 2
        theta = theta - size * step
    raise JudgmentError(
        f"the fit did not settle in 60 Newton steps on {len(y)} judgments; needed answers that "
        "are not wholly determined by the attributes, or a larger ridge"
    )


def fit(pairs: Pairs, context: str = "topics", ridge: tuple[float, float] = (1e-3, 1e-2)) -> Fit:
    """Fit one model with a given ridge. Raises: JudgmentError on data in which only one side was
    ever chosen.
    """
    pairs.require_two_classes()
    centre = context_features(context, pairs.flags).mean(axis=0)
    x = design(pairs, context, centre)
    penalty = penalties(x.shape[1], *ridge)
    theta, curvature = solve(x, pairs.chose_a, np.ones((1, len(pairs))), penalty[None])
    errors = np.sqrt(np.diag(np.linalg.inv(curvature[0])) / len(pairs))[:SIZE]
    return _unpack(
        theta[0], centre, errors, ridge, mean_loss(x, pairs.chose_a, theta[0], penalty * 0)
    )


def _unpack(
    theta: Array, centre: Array, errors: Array, ridge: tuple[float, float], loss: float
) -> Fit:
    u = theta[SIZE:-1].reshape(SIZE, len(centre))
    return Fit(theta[:SIZE], u, float(theta[-1]), centre, errors, ridge, loss)


def choose_ridge(pairs: Pairs, context: str) -> tuple[tuple[float, float], Array]:
    """Choose both ridges by the loss on scenarios left out; also return the left-out logits (n,) at
    that choice.
    """
    pairs.require_two_classes()
    centre = context_features(context, pairs.flags).mean(axis=0)
    x = design(pairs, context, centre)
    fold = folds(pairs.scenario)
    grid = [(rw, ru) for rw in RIDGES_W for ru in (RIDGES_U if len(centre) else RIDGES_U[:1])]
    held = np.stack([(fold != one).astype(np.float64) for one in np.unique(fold)])
    best: tuple[float, tuple[float, float], Array] | None = None
    theta: Array | None = None
    for ridge in grid:
        penalty = np.repeat(penalties(x.shape[1], *ridge)[None], len(held), axis=0)
        theta, _ = solve(x, pairs.chose_a, held, penalty, theta)
        logits = (x[:, :-1] @ theta[:, :-1].T)[np.arange(len(x)), fold]
        loss = log_loss(logits, pairs.chose_a)
        if best is None or loss < best[0] - 1e-9:
            best = (loss, ridge, logits)
    assert best is not None
    return best[1], best[2]


def bootstrap(
    pairs: Pairs, context: str, ridge: tuple[float, float], count: int, seed: int = 0
) -> list[Fit]:
    """Refit on `count` resamplings of whole scenarios; contexts stay centred on the full data."""
    centre = context_features(context, pairs.flags).mean(axis=0)
    x = design(pairs, context, centre)
    penalty = penalties(x.shape[1], *ridge)
    weights = resample(pairs.scenario, count, seed)
    full, _ = solve(x, pairs.chose_a, np.ones((1, len(x))), penalty[None])
    theta, _ = solve(
        x,
        pairs.chose_a,
        weights,
        np.repeat(penalty[None], count, axis=0),
        np.repeat(full, count, axis=0),
    )
    return [_unpack(one, centre, np.full(SIZE, np.nan), ridge, np.nan) for one in theta]


def resample(scenario: NDArray[np.int64], count: int, seed: int) -> Array:
    """Return row weights (count, n): how often each judgment's scenario was drawn, whole scenarios
    with replacement.
    """
    known, row = np.unique(scenario, return_inverse=True)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(known), np.full(len(known), 1 / len(known)), size=count)
    weights: Array = draws[:, row].astype(np.float64)
    return weights


def log_loss(logits: Array, chose_a: NDArray[np.bool_]) -> float:
    """Return the mean negative log-likelihood (nats)."""
    return float(np.mean(np.logaddexp(0.0, np.where(chose_a, -logits, logits))))


def temperature(
    logits: Array, chose_a: NDArray[np.bool_], bounds: Sequence[float] = (0.25, 8.0)
) -> float:
    """Return the T that minimises the loss of logits / T, by golden section over its logarithm."""
    low, high = np.log(bounds[0]), np.log(bounds[1])
    ratio = (np.sqrt(5.0) - 1.0) / 2.0
    for _ in range(40):
        first, second = high - ratio * (high - low), low + ratio * (high - low)
        if log_loss(logits / np.exp(first), chose_a) < log_loss(logits / np.exp(second), chose_a):
            high = second
        else:
            low = first
    return float(np.exp((low + high) / 2.0))
