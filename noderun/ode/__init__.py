"""The library: solve y' = f(t, y) with torch and differentiate the solve. It imports torch and nothing else of noderun."""
