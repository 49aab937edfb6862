"""Asking the past: what is stored is compared, explained, verified, annotated and tuned, without asking a model.

Reading order: `matching` (when two tellings are of one fact), `folds` (several policies over one history),
`comparison`, `explanation` with `rhythm` (what was expected), `stood` (how
sectors stood) and `wording`, `verification`, `annotations` (what a
person says was true), then tuning: `candidates` (policies worth trying), `outcome` (what each would have done),
`advice` (which to take, how surely), `reliability` (without annotations), `proposal` (the change as TOML) and
`drawing` (the plot); `nuisance` (what recurs weakly). Nothing here reads the database: stores are Protocols, values
come from `server.records`.
"""
