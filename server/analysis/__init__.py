"""Questions about the past: replay, compare, explain, verify, annotate and tune, from stored observations alone.

Begin with `refold_many`, which folds the past under any policy; each other module answers one question.
"""
