"""The agent and the server write the same log: one record gives the same line, and the same JSON object."""

from __future__ import annotations

import logging

import pytest

from camera_agent import logs as agent_logs
from server.monitoring import logs as server_logs
from tests.camera_agent.test_logs import RECORDS


@pytest.mark.parametrize("record", RECORDS, ids=range(len(RECORDS)))
@pytest.mark.parametrize("form", ["TextFormatter", "JsonFormatter"])
def test_agent_and_server_format_a_record_alike(record: logging.LogRecord, form: str) -> None:
    agent, server = getattr(agent_logs, form)(), getattr(server_logs, form)()
    assert agent.format(record) == server.format(record)
