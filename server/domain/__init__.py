"""Values, errors and rules that every other room uses. No I/O but the header of a picture.

Begin with `records` (what is stored) and `errors` (everything that is raised on purpose).
"""
