"""Training jobs: `train_prm` and `train_critic`. The only room that imports trainers and trackers.

Nothing is exported: each job is a module that is run, on one process or under a launcher.
"""
