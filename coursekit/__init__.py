"""coursekit: the library behind the course on making NLP transformers small.

`models`, `data` and `measure` stand at the bottom; `train` uses them; `compress` and `distill`
use `train`; `course`, `viz` and `cli` use everything. Imports never point the other way.
"""

import os

__version__ = "0.1.0"

# On Linux a waiting OpenMP thread spins for milliseconds, and on a core that is shared nobody can work meanwhile: with
# two threads beside two busy programs an encoder took 80 times as long. Spinning for microseconds and then sleeping
# costs nothing on an idle machine. Read once, when torch is loaded; programs started from here inherit it.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
