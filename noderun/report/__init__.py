"""Tables out of result.json dictionaries; imports no torch, so that looking at finished runs takes no time."""
