"""Puzzles with exact checkers, and makers of such puzzles."""

from prm.verifiers.puzzles.arithmetic_chain import ArithmeticChainMaker, ArithmeticChainVerifier
from prm.verifiers.puzzles.linear_system import LinearSystemMaker, LinearSystemVerifier
from prm.verifiers.puzzles.making import Maker, Puzzle, make_puzzles
from prm.verifiers.puzzles.number_games import (
    CountdownMaker,
    CountdownVerifier,
    Game24Maker,
    Game24Verifier,
)
from prm.verifiers.puzzles.parentheses import ParenthesesMaker, ParenthesesVerifier
from prm.verifiers.puzzles.polynomial_roots import PolynomialRootsMaker, PolynomialRootsVerifier

MAKERS: dict[str, type[Maker]] = {
    maker.verifier: maker
    for maker in (
        ParenthesesMaker,
        Game24Maker,
        CountdownMaker,
        PolynomialRootsMaker,
        LinearSystemMaker,
        ArithmeticChainMaker,
    )
}
"""By the name of the verifier that checks their puzzles."""

__all__ = [
    "MAKERS",
    "ArithmeticChainMaker",
    "ArithmeticChainVerifier",
    "CountdownMaker",
    "CountdownVerifier",
    "Game24Maker",
    "Game24Verifier",
    "LinearSystemMaker",
    "LinearSystemVerifier",
    "Maker",
    "ParenthesesMaker",
    "ParenthesesVerifier",
    "PolynomialRootsMaker",
    "PolynomialRootsVerifier",
    "Puzzle",
    "make_puzzles",
]
