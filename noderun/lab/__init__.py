"""The lab: classical problems and measurements of solvers on them."""
