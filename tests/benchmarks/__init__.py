"""How fast we are, beside how fast this machine could be. Nothing here is a test; no test depends on time.

python -m tests.benchmarks.engine --footage vtest.avi      limit, engine, server and peers in one interleaved run
python -m tests.benchmarks.overload --footage vtest.avi    three times what the server can answer: goodput, refusals
python -m tests.benchmarks.steady --footage vtest.avi      memory under a mixed load, for as long as one likes
python -m tests.benchmarks.replay                          frames of the past folded from the store, per second of CPU
python -m tests.benchmarks.steps --footage vtest.avi       what each step and each optimisation costs, on one core
"""
