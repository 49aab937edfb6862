"""How fast we are, beside how fast this machine could be. Nothing here is a test; no test depends on time.

python -m tests.benchmarks.engine --footage vtest.avi      limit, engine and server in one interleaved run
python -m tests.benchmarks.steps --footage vtest.avi       what each step and each optimisation costs, on one core
"""
