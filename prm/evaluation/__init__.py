"""Evaluation: step metrics, calibration, best-of-n curves and their bootstrap intervals.

Mathematics on plain lists and numpy arrays: no models here. `prm.evaluation.step_truth` is the
exact truth of the arithmetic problems. Import the modules by name.
"""
