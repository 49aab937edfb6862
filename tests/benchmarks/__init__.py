"""How fast we are beside how fast this machine could be, and how right. No test, and no test depends on time.

python -m tests.benchmarks.engine --footage vtest.avi      limit, engine, server and peers in one interleaved run
python -m tests.benchmarks.overload --footage vtest.avi    three times what the server can answer: goodput, refusals
python -m tests.benchmarks.steady --footage vtest.avi      memory under a mixed load, for as long as one likes
python -m tests.benchmarks.steps --footage vtest.avi       what each step and each optimisation costs, on one core
python -m tests.benchmarks.replay                          frames of the past folded from the store, per second of CPU
python -m tests.benchmarks.layouts --observed OUT --kit KIT    events on sectors that no constant was chosen on
python -m tests.benchmarks.worlds --kit KIT                events in simulated scenes
python -m tests.benchmarks.agent                           the agent's CPU, memory, first burst, disk; so `agent_growth`
                                                           (for an hour), `agent_gate`, `agent_chaos`, `agent_rtsp`
"""
