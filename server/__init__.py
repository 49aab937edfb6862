"""The ensemble server: bursts of stills in, presence and movement events out.

Reading order follows a burst. `intake` takes it off the wire and `burst` checks it; `pipeline` is its whole story,
and knows neither flask nor torch nor SQL: `ensemble` (the one door to torch) gives labels, `sites` the policy in
force, `store` (the one door to SQL) the camera's turn, `refold` advances it, `receipt` is the answer. `delivery`
then drains the outbox into `channels`. `records` holds the values that travel between them, `errors` all that is
raised on purpose.
`app` puts the parts together and starts nothing; `hosting` and `commands` are how it is run.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("sectorwatch")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0.0.0+checkout"
