"""Which equations of physics can generate data, and why: their dispersion relation says it.

Liu, Luo, Xu, Jaakkola, Tegmark: GenPhys, arXiv 2304.02637. A linear equation turns data into noise if (C2)
every wave fades faster than the mean, Im w(k) < Im w(0) for all k > 0 where phi ~ e^(ikx - iwt), and (C1)
what it makes of a point is a density, nowhere negative. No torch here: the command line is quick.
"""

from __future__ import annotations

import ast
import itertools
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import UsageError, nearest

Terms = Mapping[tuple[int, float], complex]
"""A linear equation: (order in time, power of k) -> coefficient; the Laplacian is -k^2."""
LONGEST = 300
"""Characters of an equation."""
WAVES = np.logspace(-1, 2, 121)
"""Wave numbers at which condition C2 is looked at."""
MARGIN = 1e-7
"""What counts as faster, relative to the rates compared."""
UNKNOWN = re.compile(r"phi(_t+)?")
ARITHMETIC: Mapping[type[ast.operator], Callable[[complex, complex], complex]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
EXAMPLE = "an equation reads like 'phi_tt + lap(phi) - m**2*phi' or 'phi_t = lap(phi)'"


@dataclass(frozen=True)
class Equation:
    """A linear equation for phi(x, t) with constant coefficients."""

    text: str
    terms: Terms

    @classmethod
    def read(cls, text: str, numbers: Mapping[str, float] | None = None) -> Equation:
        """Understand phi, phi_t, phi_tt, lap(...), frac(..., a) which is (-lap)^(a/2), i, and ``numbers``.

        What stands without "=" is meant to be zero. Nothing but arithmetic is evaluated.
        """
        if len(text) > LONGEST:
            raise UsageError(
                f"An equation of {len(text)} characters is too long; at most {LONGEST} are read."
            )
        left, equals, right = text.partition("=")
        if "=" in right:
            raise UsageError(f"'{text}' has more than one '='; {EXAMPLE}.")
        reader = _Reader(text, numbers or {})
        terms = reader.terms(left)
        if equals:
            terms = _sum(terms, _times(-1 + 0j, reader.terms(right)))
        terms = {key: c for key, c in terms.items() if c != 0}
        if not any(order for order, _ in terms):
            raise UsageError(f"'{text}' has no derivative in time, phi_t or phi_tt; {EXAMPLE}.")
        return cls(text, terms)

    @property
    def order(self) -> int:
        """Of the highest derivative in time."""
        return max(order for order, _ in self.terms)

    def coefficient(self, order: int, k: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Of d^order / dt^order, for waves of these numbers."""
        total = np.zeros(np.shape(k), dtype=complex)
        for (at, power), c in self.terms.items():
            if at == order:
                total = total + c * k**power
        return total

    def rates(self, k: NDArray[np.float64]) -> NDArray[np.complex128]:
        """s = -iw of every branch, (n, order): phi ~ e^(st). Re s = Im w, the fastest growing first."""
        highest_first = [self.coefficient(order, k) for order in range(self.order, -1, -1)]
        out = np.full((len(k), self.order), -np.inf + 0j)
        for i, polynomial in enumerate(np.stack(highest_first, 1)):
            roots = np.roots(polynomial)
            out[i, : len(roots)] = roots[np.lexsort((-roots.imag, -np.round(roots.real, 9)))]
        return out


class _Reader:
    """Turns the syntax tree of a formula into terms; everything that is not listed is refused."""

    def __init__(self, text: str, numbers: Mapping[str, float]):
        self.text, self.numbers = text, numbers

    def terms(self, part: str) -> Terms:
        try:
            tree = ast.parse(part.strip(), mode="eval")
            value = self.value(tree.body)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise UsageError(f"'{self.text}' is no formula; {EXAMPLE}.") from error
        except ArithmeticError as error:
            raise UsageError(f"'{self.text}' cannot be computed: {error}; choose smaller numbers.") from error
        if isinstance(value, complex):
            if value != 0:
                raise UsageError(f"'{self.text}' has a term without phi; {EXAMPLE}.")
            return {}
        return value

    def value(self, node: ast.expr) -> complex | Terms:
        match node:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                return complex(number)
            case ast.Name(id=name):
                return self.name(name)
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                value = self.value(inner)
                return -value if isinstance(value, complex) else _times(-1 + 0j, value)
            case ast.UnaryOp(op=ast.UAdd(), operand=inner):
                return self.value(inner)
            case ast.BinOp(left=left, op=op, right=right):
                return self.joined(self.value(left), op, self.value(right))
            case ast.Call(func=ast.Name(id="lap"), args=[inner], keywords=[]):
                return _raised(self.linear(inner), 2.0, -1 + 0j)
            case ast.Call(func=ast.Name(id="frac"), args=[inner, power], keywords=[]):
                return _raised(self.linear(inner), self.real(power), 1 + 0j)
        raise UsageError(f"'{self.text}' holds '{ast.unparse(node)}', which is not understood; {EXAMPLE}.")

    def name(self, name: str) -> complex | Terms:
        if UNKNOWN.fullmatch(name):
            return {(name.count("t"), 0.0): 1 + 0j}
        if name in ("i", "j"):
            return 1j
        if name not in self.numbers:
            known = ("phi", "phi_t", "phi_tt", "lap", "frac", "i", *self.numbers)
            raise UsageError(f"'{self.text}' holds the unknown name '{name}'{nearest(name, known)}")
        return complex(self.numbers[name])

    def joined(self, a: complex | Terms, op: ast.operator, b: complex | Terms) -> complex | Terms:
        if isinstance(a, complex) and isinstance(b, complex) and type(op) in ARITHMETIC:
            return complex(ARITHMETIC[type(op)](a, b))
        match op, a, b:
            case ast.Mult(), complex(), Mapping():
                return _times(a, b)
            case ast.Mult(), Mapping(), complex():
                return _times(b, a)
            case ast.Div(), Mapping(), complex():
                return _times(1 / b, a)
            case ((ast.Add() | ast.Sub()), _, _):
                sign = 1 + 0j if isinstance(op, ast.Add) else -1 + 0j
                return _sum(self.without_source(a), _times(sign, self.without_source(b)))
        raise UsageError(f"'{self.text}' is not linear in phi, so it has no dispersion relation; {EXAMPLE}.")

    def without_source(self, value: complex | Terms) -> Terms:
        if not isinstance(value, complex):
            return value
        if value != 0:
            raise UsageError(f"'{self.text}' has a term without phi; {EXAMPLE}.")
        return {}

    def linear(self, node: ast.expr) -> Terms:
        return self.without_source(self.value(node))

    def real(self, node: ast.expr) -> float:
        value = self.value(node)
        if not isinstance(value, complex) or value.imag or value.real <= 0:
            raise UsageError(f"'{self.text}': the power of frac is a positive number; {EXAMPLE}.")
        return value.real


def _times(number: complex, terms: Terms) -> Terms:
    return {key: number * c for key, c in terms.items()}


def _sum(a: Terms, b: Terms) -> Terms:
    return {key: a.get(key, 0j) + b.get(key, 0j) for key in (*a, *(k for k in b if k not in a))}


def _raised(terms: Terms, power: float, sign: complex) -> Terms:
    return {(order, at + power): sign * c for (order, at), c in terms.items()}


@dataclass(frozen=True)
class Verdict:
    """Whether an equation is s-generative ("s" for smooth), and why."""

    equation: Equation
    branch: int | None
    """Of the branches, the one on which all waves fade faster than the mean; None if there is none."""
    stuck: float | None
    """The least wave number that fades no faster than the mean on the best branch."""
    positive: tuple[int, ...] = ()
    """Dimensions of space, of 1 to 3, in which a point becomes a density."""
    samples: tuple[tuple[float, complex], ...] = field(default=())
    """(k, w(k)) on the branch, or on the best one."""

    @property
    def answer(self) -> str:
        if self.branch is None or not self.positive:
            return "no"
        return (
            "yes"
            if self.positive == (1, 2, 3)
            else f"in {' and '.join(map(str, self.positive))} dimension only"
        )

    @property
    def generative(self) -> bool:
        return self.answer == "yes"

    @property
    def reason(self) -> str:
        if self.branch is None:
            return (
                f"waves with k = {self.stuck:.3g} fade no faster than the mean (Im w(k) >= Im w(0)), "
                "so what data look like is never forgotten."
            )
        fades = "every wave fades faster than the mean, Im w(k) < Im w(0) for k > 0"
        if not self.positive:
            return f"{fades}, but what becomes of a point is negative somewhere, so it is no density."
        if self.positive != (1, 2, 3):
            return f"{fades}, but in more dimensions what becomes of a point is negative somewhere."
        return f"{fades}, and what becomes of a point is nowhere negative."


def check(equation: Equation) -> Verdict:
    """Look at every branch of the dispersion relation, and at what becomes of a point."""
    start, rates = equation.rates(np.zeros(1))[0], equation.rates(WAVES)
    scale = np.maximum(1.0, np.abs(np.where(np.isfinite(rates), rates, 0)))
    falls = (start.real - rates.real > MARGIN * scale) & np.isfinite(start.real)
    fading = falls.all(0) & np.isfinite(rates).all(0)
    branch = int(fading.argmax()) if fading.any() else None
    shown = branch if branch is not None else int(falls.sum(0).argmax())
    stuck = None if branch is not None else float(WAVES[~falls[:, shown]][0])
    k = np.array([0.0, 0.5, 1.0, 2.0, 4.0])
    samples = tuple(
        (float(at), complex(1j * s)) for at, s in zip(k, equation.rates(k)[:, shown], strict=True)
    )
    positive = () if branch is None else tuple(n for n in (1, 2, 3) if _positive(equation, branch, n))
    return Verdict(equation, branch, stuck, positive, samples)


def _positive(equation: Equation, branch: int, dims: int) -> bool:
    """Bochner's theorem: a point becomes a density if its transform makes no matrix that is ever negative.

    The matrices are those of all differences within a lattice of wave vectors, at several scales and times.
    """
    side = {1: 41, 2: 9, 3: 5}[dims]
    lattice = np.array(list(itertools.product(range(side), repeat=dims)), dtype=float)
    apart = np.linalg.norm(lattice[:, None] - lattice, axis=2)
    lengths, where = np.unique(np.round(apart, 9), return_inverse=True)
    for step in (0.15, 0.4, 1.0):
        for time in (0.3, 1.0, 3.0):
            transform = _transform(equation, branch, step * lengths, time)
            matrix = transform[where].reshape(apart.shape)
            if np.linalg.eigvalsh((matrix + matrix.conj().T) / 2).min() < -1e-6 * len(lattice):
                return False
    return True


def _transform(
    equation: Equation, branch: int, k: NDArray[np.float64], time: float
) -> NDArray[np.complex128]:
    """Fourier transform of the density that a point has become: in time, if waves of all lengths can be
    followed there, or with distance from a plane that holds the data (Poisson), where one branch dies out."""
    rates, start = equation.rates(k), equation.rates(np.zeros(1))[0]
    bounded = equation.rates(WAVES[-1:])[0].real.max() <= start.real.max() + MARGIN
    if equation.order != 2 or not bounded:
        return np.exp((rates[:, branch] - start[branch]) * time)
    drag = (equation.coefficient(1, np.zeros(1)) / equation.coefficient(2, np.zeros(1)))[0]

    def density(s: NDArray[np.complex128]) -> NDArray[np.complex128]:
        middle, half = s.sum(-1) / 2, (s[..., 0] - s[..., 1]) / 2
        small = np.abs(half * time) < 1e-6
        safe = np.where(small, 1.0, half)
        phi = np.where(small, time, np.sinh(safe * time) / safe)
        slope = middle * phi + np.cosh(half * time)
        return np.exp(middle * time) * (slope + drag * phi)

    return density(rates) / density(start[None])[0]


@dataclass(frozen=True)
class Law:
    """A process of the paper's table: an equation, and what it makes of data."""

    name: str
    equation: str
    frequency: str
    density: str
    velocity: str
    births: str
    system: str = ""
    """Which of our systems it is."""


PROCESSES = (
    Law("diffusion", "phi_t - lap(phi)", "-i k^2", "phi", "-grad ln(phi)", "0", "ddpm, edm"),
    Law("Poisson", "phi_tt + lap(phi)", "-i k", "-phi_t", "grad(phi) / phi_t", "0", "pfgm"),
    Law(
        "Yukawa",
        "phi_tt + lap(phi) - m**2*phi",
        "-i sqrt(k^2 + m^2)",
        "-phi_t",
        "grad(phi) / phi_t",
        "-m^2 phi",
        "yukawa",
    ),
    Law(
        "Helmholtz",
        "phi_tt + lap(phi) + k0**2*phi",
        "-i sqrt(k^2 - k0^2)",
        "-phi_t",
        "grad(phi) / phi_t",
        "k0^2 phi",
    ),
    Law(
        "dissipative wave",
        "phi_tt + 2*e*phi_t - lap(phi)",
        "-i e + i sqrt(e^2 - k^2)",
        "phi_t + 2 e phi",
        "-grad(phi) / p",
        "0",
    ),
    Law("ideal wave", "phi_tt - lap(phi)", "k, -k", "phi_t", "-grad(phi) / phi_t", "0"),
    Law("Schrödinger", "i*phi_t + lap(phi)", "k^2", "|phi|^2", "2 Im(phi* grad phi) / |phi|^2", "0"),
    Law("fractional diffusion", "phi_t + frac(phi, a)", "-i k^a", "phi", "(x - x0) / (a t)", "0"),
)
"""GenPhys, tables 1 and 2, with fractional diffusion beside them."""
NUMBERS = {"m": 1.0, "e": 1.0, "k0": 1.0, "a": 1.5, "c": 1.0}
"""Names that an equation may use, and what they are unless told otherwise."""
