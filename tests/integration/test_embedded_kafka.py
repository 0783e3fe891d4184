"""The embedded Kafka says why it does not start."""

from pathlib import Path

import pytest

from cdc.embedded.kafka import EmbeddedKafka
from cdc.errors import EmbeddedKafkaFailed


def test_a_broker_that_does_not_start_quotes_its_log(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedKafkaFailed, match=r"not-a-number") as caught:
        EmbeddedKafka(tmp_path, overrides={"num.io.threads": "not-a-number"}).start()
    assert str(tmp_path / "kafka.log") in caught.value.hint
