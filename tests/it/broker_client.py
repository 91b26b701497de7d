"""A Kafka client that shares no code with the one under test (package kafka-python).

    broker_client.py SERVERS create TOPIC PARTITIONS
    broker_client.py SERVERS delete TOPIC
    broker_client.py SERVERS produce TOPIC   < {"key": …, "value": … or null} a line
    broker_client.py SERVERS consume TOPIC   > {"key", "value", "partition", "offset", "headers"} a line
"""

import json
import sys
import time

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic


def encoded(text):
    return None if text is None else text.encode()


def decoded(data):
    return None if data is None else data.decode()


def create(servers, topic, partitions):
    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.create_topics([NewTopic(topic, int(partitions), 1)])
    admin.close()


def delete(servers, topic):
    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.delete_topics([topic])
    admin.close()


def produce(servers, topic):
    producer = KafkaProducer(bootstrap_servers=servers, acks="all")
    sent = []
    for line in sys.stdin:
        message = json.loads(line)
        key, value = encoded(message["key"]), encoded(message["value"])
        sent.append(producer.send(topic, key=key, value=value))
    producer.flush()
    for future in sent:
        future.get(timeout=30)
    producer.close()


def consume(servers, topic):
    consumer = KafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False)
    deadline = time.monotonic() + 30
    while not (numbers := consumer.partitions_for_topic(topic)):
        if time.monotonic() > deadline:
            sys.exit(f"no topic {topic}")
        time.sleep(0.1)
    partitions = [TopicPartition(topic, number) for number in numbers]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    # The broker's end offsets are not to be relied on: the end is where nothing more comes. The
    # first message may take long where a machine is busy.
    quiet_since, patience = time.monotonic(), 20
    while time.monotonic() - quiet_since < patience:
        for messages in consumer.poll(timeout_ms=500).values():
            for message in messages:
                quiet_since, patience = time.monotonic(), 3
                headers = {key: decoded(value) for key, value in message.headers}
                row = {
                    "key": decoded(message.key),
                    "value": decoded(message.value),
                    "partition": message.partition,
                    "offset": message.offset,
                    "headers": headers,
                }
                print(json.dumps(row))
    consumer.close()


if __name__ == "__main__":
    servers, command, *rest = sys.argv[1:]
    {"create": create, "delete": delete, "produce": produce, "consume": consume}[command](
        servers, *rest
    )
