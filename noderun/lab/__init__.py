"""The lab: classical problems, and what can be measured of a solver on them."""
