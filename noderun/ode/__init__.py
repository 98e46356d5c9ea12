"""The library: solve y' = f(t, y) with torch and differentiate the solve; it imports nothing else of noderun."""
