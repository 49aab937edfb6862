"""Values, errors and rules that every other room uses. No network and no database.

Begin with `records` (what is stored) and `errors` (everything that is raised on purpose).
"""
