"""HTTP: one module for each group of endpoints. Begin with `bursts`, the endpoint that cameras use.

`problem_json` turns errors into answers, `auth` checks tokens, `admission` and `quota` bound what is taken in.
"""
