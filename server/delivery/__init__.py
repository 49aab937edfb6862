"""Events and notices leave the server here: `dispatcher` sends the outbox, `channels` holds the ways out.

A new channel is a class in `channels` with `name` and `send`, and an entry in `server.app.composition._runtime`.
"""
