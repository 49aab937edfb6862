"""HTTP: one module for each group of endpoints, named like its path. Begin with `bursts`, which camera agents use.

A new endpoint is a `routes` function, a line in `server.app.composition` and its description in `openapi`.
`problem_json` turns errors into answers, `auth` checks tokens, `admission` limits uploads.
"""
