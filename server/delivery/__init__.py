"""Events and notices leave the server here: `dispatcher` sends the outbox on the channels, and README.md says how.

A new channel is a room of its own, with an entry in `factory` and a table in `server.settings.channels`.
"""
