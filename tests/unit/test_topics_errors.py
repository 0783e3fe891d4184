"""Kafka's many codes become our few errors."""

import threading
import time

import pytest
from confluent_kafka import KafkaError as Code

from cdc.errors import BrokerUnreachable, Fenced, KafkaError, OffsetsLost, TopicMismatch
from cdc.topics.client import asking_s, failure, mapped


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


def test_it_is_known_for_how_long_a_thread_has_been_asking_kafka() -> None:
    thread = threading.get_ident()
    assert asking_s(thread) == 0
    with mapped("wait"):
        time.sleep(0.02)
        with mapped("wait within"):
            within = asking_s(thread)
        assert asking_s(thread) >= within >= 0.02
    with pytest.raises(BrokerUnreachable), mapped("wait in vain"):
        raise TimeoutError
    assert asking_s(thread) == 0
