"""Kafka's many codes become our few errors."""

import pytest
from confluent_kafka import KafkaError as Code

from cdc.errors import BrokerUnreachable, Fenced, KafkaError, OffsetsLost, TopicMismatch
from cdc.topics.client import failure


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (Code._TRANSPORT, BrokerUnreachable),
        (Code.UNKNOWN_LEADER_EPOCH, BrokerUnreachable),  # a broker just started knows less than its clients
        (Code.NOT_ENOUGH_REPLICAS, BrokerUnreachable),
        (Code.INVALID_PRODUCER_EPOCH, Fenced),
        (Code.OFFSET_OUT_OF_RANGE, OffsetsLost),
        (Code.UNKNOWN_TOPIC_OR_PART, TopicMismatch),
        (Code.MSG_SIZE_TOO_LARGE, TopicMismatch),
        (Code.INVALID_CONFIG, KafkaError),
    ],
)
def test_a_code_becomes_the_error_that_says_what_to_do(code: int, expected: type[KafkaError]) -> None:
    error = failure(Code(code), "do something")
    assert type(error) is expected
    assert error.message.startswith("do something: ")
