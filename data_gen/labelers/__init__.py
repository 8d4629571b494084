"""Labelers: what is known of every step of a solution, from evidence."""

from data_gen.labelers.bayes import BayesLabeler
from data_gen.labelers.consensus import ConsensusFilter
from data_gen.labelers.implicit import ImplicitLabeler
from data_gen.labelers.judge import JudgeLabeler
from data_gen.labelers.math_shepherd import MathShepherdLabeler
from data_gen.labelers.omega import OmegaLabeler
from data_gen.labelers.program_labeler import ProgramLabeler

__all__ = [
    "BayesLabeler",
    "ConsensusFilter",
    "ImplicitLabeler",
    "JudgeLabeler",
    "MathShepherdLabeler",
    "OmegaLabeler",
    "ProgramLabeler",
]
