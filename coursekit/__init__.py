"""coursekit: the library behind the course on making NLP transformers small.

`models`, `data` and `measure` stand at the bottom; `train` uses them; `compress` and `distill`
use `train`; `course`, `viz` and `cli` use everything. Imports never point the other way.
"""

import os

__version__ = "0.1.0"

# Waiting threads sleep instead of spinning: on a core that is shared, spinning made training ten times slower.
# OpenMP reads it once, when torch is loaded; the programs that coursekit starts inherit it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
