"""Labelers: what is known of every step of a solution, from evidence."""

from data_gen.labelers.math_shepherd import MathShepherdLabeler

__all__ = ["MathShepherdLabeler"]
