"""Types and ranges that several options share."""

from typing import Annotated, Literal

from noderun.config.validation import Constraint

Count = Annotated[int, Constraint(lambda n: n >= 1, "a whole number from 1")]
Index = Annotated[int, Constraint(lambda n: n >= 0, "a whole number from 0")]
Seed = Annotated[int, Constraint(lambda n: 0 <= n < 2**32, "a whole number from 0 to 2^32 - 1")]
Positive = Annotated[float, Constraint(lambda x: x > 0, "a number above 0")]
NotNegative = Annotated[float, Constraint(lambda x: x >= 0, "a number from 0")]
Fraction = Annotated[float, Constraint(lambda x: 0 <= x < 1, "a number from 0 up to, not including, 1")]
# the state of a training solve is float32: a smaller error per step drowns in its rounding (eps = 1.2e-7)
Tolerance = Annotated[
    float, Constraint(lambda x: x >= 1e-7, "a number from 1e-7 (float32, the dtype, resolves 1.2e-7)")
]
Device = Annotated[
    str,
    Constraint(
        lambda d: d.removeprefix("cuda:").isdigit() or d in ("auto", "cpu", "cuda"), "auto, cpu, cuda or cuda:N"
    ),
]
FolderName = Annotated[
    str, Constraint(lambda n: n not in ("", ".", "..") and not set(n) & set("/\\\0"), "a word that can name a folder")
]
Share = Annotated[float, Constraint(lambda x: 0 < x <= 1, "a number above 0, up to 1")]
FigureFormat = Literal["png", "pdf", "svg"]
Task = Literal["interpolate", "forecast", "classify", "regress"]
Activation = Literal["identity", "elu", "relu", "sigmoid", "silu", "softplus", "tanh"]
KlWarmup = Annotated[Index, "training steps over which the weight of the KL divergence grows from 0 to 1"]
