"""Step labels that others made, row by row: one module a format, and how several say one thing.

A format turns a row into `Imported` solutions, or into the reason why there is none; `merge` makes
one `LabelledSolution` of what all annotators say of the same solution. `data_gen.importers` is the
job.
"""

from data_gen.importing.formats import FORMATS, Format
from data_gen.importing.imported import Imported, Options, Said
from data_gen.importing.merging import merge

__all__ = ["FORMATS", "Format", "Imported", "Options", "Said", "merge"]
