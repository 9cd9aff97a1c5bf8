"""Queues for the tests of the intake."""

import pytest
from queues import Queues, new_queues


@pytest.fixture
def queues(other_s3_server: str) -> Queues:
    """Two empty queues on the server that speaks SQS, too."""
    return new_queues(other_s3_server)
