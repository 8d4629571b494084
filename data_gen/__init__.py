"""The jobs that make training data, in their order: problems, sample, label, critiques.

Each is run as ``python -m data_gen.JOB --config FILE``, resumes by itself, and prints
``in = out + skipped(by reason)``. `data_gen.pipeline` runs a folder of job settings in order.
"""
