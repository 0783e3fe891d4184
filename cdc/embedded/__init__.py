"""Servers for tests and the demo: an Aerospike emulator (`aerospike`) and Apache Kafka (`kafka`), on loopback only."""
