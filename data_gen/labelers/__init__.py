"""Labelers: what is known of every step of a solution, from evidence."""

from data_gen.labelers.bayes import BayesLabeler
from data_gen.labelers.math_shepherd import MathShepherdLabeler
from data_gen.labelers.omega import OmegaLabeler

__all__ = ["BayesLabeler", "MathShepherdLabeler", "OmegaLabeler"]
