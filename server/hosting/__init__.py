"""Gunicorn, and what protects it where no proxy stands in front: Sectorwatch often runs alone on an old PC.

`gunicorn_app` starts the server. `gunicorn_worker` is Gunicorn's thread worker with `deadlines` for slow clients,
request threads for `whole_requests` alone, and a `lingering_close` for refused ones. Behind a proxy that buffers
requests, Gunicorn's own worker does as well: `gunicorn -c deploy/gunicorn.conf.py -k gthread`.
"""
