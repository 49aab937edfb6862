"""From labels to events: pure functions without I/O, clock or randomness. Begin with `fold.advance`.

`site` holds what a person can tune, `fusion` makes votes and verdicts, `tracking` follows things through time.
"""
