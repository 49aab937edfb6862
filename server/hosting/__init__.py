"""Gunicorn in one room: `gunicorn_app` starts the server; the other modules protect it where no proxy stands in front.

`gunicorn_worker` replaces Gunicorn's thread worker, `deadlines` cuts off slow clients, `lingering_close` lets a
refused client read its answer.
"""
