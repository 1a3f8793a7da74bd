"""Imported into a fork server: the smallest training uses the kernels that Numba compiles."""

from tinylab import models

models.WORTH_COMPILING = 0
