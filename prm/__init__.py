"""Process reward models: make step labels, train a scorer and a critic, guide search with them.

Importing this package imports nothing heavy. `prm.scoring` needs torch and transformers,
`prm.search` only the standard library.
"""

__version__ = "0.1.0"
