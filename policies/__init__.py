"""The rules: from labels to events, purely. No I/O, no clock, no randomness, no globals; nothing of the server.

Reading order: `observation` (what comes in), `sensitivity` (votes to a verdict), `site_policy` (all that is tunable;
read from TOML by way of `document` and `written`), `suppression` (known nuisances), `judgement` (labels to candidates
and votes), `tracking` and `assignment` (which box is which thing), `track` and `visit` (a thing and its stays in
sectors), `presence` (sectors over time), `fold` (the heart: `advance`), `telling` and `events` (what comes out),
`standing` (occupied, clear or unobserved). `fitness` says what a policy cannot get from the models there are;
`together` folds several policies over one past at a time.
"""
