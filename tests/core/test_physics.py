"""Equations are read safely, and judged as the paper's table and closed forms say."""

from __future__ import annotations

import cmath

import numpy as np
import pytest

from sfumato.core.physics import NUMBERS, PROCESSES, Equation, check
from sfumato.errors import UsageError

EXPECTED = {
    "diffusion": "yes",
    "Poisson": "yes",
    "Yukawa": "yes",
    "Helmholtz": "no",
    "dissipative wave": "in 1 dimension only",
    "ideal wave": "no",
    "Schrödinger": "no",
    "fractional diffusion": "yes",
}


@pytest.mark.parametrize("law", PROCESSES, ids=lambda law: law.name)
def test_the_table_of_processes(law):
    verdict = check(Equation.read(law.equation, NUMBERS))
    assert verdict.answer == EXPECTED[law.name]
    assert verdict.generative == (EXPECTED[law.name] == "yes")
    assert verdict.reason.endswith(".")


def test_dispersion_relations_are_the_tabled_ones():
    k, m, e = np.array([0.3, 2.0]), 0.7, 1.3
    table = {
        "phi_t - lap(phi)": [lambda k: -1j * k**2],
        "phi_tt + lap(phi)": [lambda k: 1j * k, lambda k: -1j * k],
        "phi_tt + lap(phi) - m**2*phi": [
            lambda k: 1j * cmath.sqrt(k**2 + m**2),
            lambda k: -1j * cmath.sqrt(k**2 + m**2),
        ],
        "phi_tt + 2*e*phi_t - lap(phi)": [
            lambda k: -1j * e + 1j * cmath.sqrt(e**2 - k**2),
            lambda k: -1j * e - 1j * cmath.sqrt(e**2 - k**2),
        ],
        "i*phi_t + lap(phi)": [lambda k: k**2],
        "phi_t + frac(phi, 1.5)": [lambda k: -1j * k**1.5],
    }
    for text, branches in table.items():
        rates = Equation.read(text, {"m": m, "e": e}).rates(k)
        for row, at in zip(rates, k, strict=True):
            ours = sorted((1j * s for s in row), key=lambda w: (round(w.imag, 6), round(w.real, 6)))
            theirs = sorted((b(at) for b in branches), key=lambda w: (round(w.imag, 6), round(w.real, 6)))
            np.testing.assert_allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize(
    ("text", "answer", "why"),
    [
        ("phi_t = lap(phi)", "yes", "nowhere negative"),
        ("phi_t + lap(phi)", "no", "fade no faster"),  # heat, backwards
        ("phi_t = -lap(lap(phi))", "no", "negative somewhere"),  # all waves fade, yet overshoot
        ("phi_t + frac(phi, 3)", "no", "negative somewhere"),
        ("phi_t + frac(phi, 1)", "yes", "nowhere negative"),  # Poisson in other words
        ("phi_t - lap(phi) + 3*phi", "yes", "nowhere negative"),  # all decays alike, besides
        ("2*phi_tt/4 = -lap(phi)/2 + .5*m*m*phi", "yes", "nowhere negative"),
        ("phi_tt - lap(phi) + phi", "no", "fade no faster"),  # Klein and Gordon
        ("phi_tt + lap(phi) + k0**2*phi", "no", "k = 0.1 "),
    ],
)
def test_other_equations(text, answer, why):
    verdict = check(Equation.read(text, NUMBERS))
    assert verdict.answer == answer
    assert why in verdict.reason


def test_both_sides_of_an_equation_count():
    one, other = (Equation.read(t, NUMBERS).terms for t in ("phi_t = lap(phi)", "phi_t - lap(phi)"))
    assert one == other


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("phi_t - lap(phi", "is no formula"),
        ("", "is no formula"),
        ("__import__('os').system('true')", "not understood"),
        ("phi_t.real + lap(phi)", "not understood"),
        ("phi_t + [1]", "not understood"),
        ("phi_t + True*phi", "not understood"),
        ("phi_t + lap(phi, 2)", "not understood"),
        ("phi_t * phi", "not linear"),
        ("phi**2 + phi_t", "not linear"),
        ("1/phi_t", "not linear"),
        ("phi_t - lap(phi) + 1", "term without phi"),
        ("lap(phi)", "no derivative in time"),
        ("phi_t - q*phi", "unknown name 'q'"),
        ("phi_t - laplace(phi)", "not understood"),
        ("phi_t = lap(phi) = 0", "more than one '='"),
        ("phi_t + 9**9**9**9*phi", "cannot be computed"),
        ("phi_t + phi/0", "cannot be computed"),
        ("phi_t + frac(phi, -1)", "positive number"),
        ("phi_t" + "+phi" * 100, "too long"),
        ("(" * 140 + "phi_t" + ")" * 140, "is no formula|has no derivative"),
    ],
)
def test_what_cannot_be_read_is_refused(text, match):
    if text.startswith("((("):
        Equation.read("(" * 50 + "phi_t" + ")" * 50)
        return
    with pytest.raises(UsageError, match=match):
        Equation.read(text, NUMBERS)
