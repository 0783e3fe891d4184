"""Continuous backup and point-in-time recovery for Aerospike.

The story of the data, folder by folder: `source` reads one namespace, `collector` turns sweeps into changes,
`topics` carries them through Kafka, `compactor` makes segments and restore sets of them, `archive` keeps those,
`replayer` brings a moment back. `wire` and `codec` are the bytes underneath, `service` and `cli` the roof.
"""

__version__ = "0.1.0"
