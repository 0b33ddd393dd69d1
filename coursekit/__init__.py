"""coursekit: the library behind the course on making NLP transformers small.

`models`, `data` and `measure` stand at the bottom; `train` uses them; `compress` and `distill`
use `train`; `course`, `viz` and `cli` use everything. Imports never point the other way.
"""

__version__ = "0.1.0"
