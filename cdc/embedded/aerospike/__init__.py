"""An Aerospike emulator: speaks the wire protocol to the official client and to our own bulk reader.

It has what the product and ordinary writers need of Community Edition 8.1.2, keeps time and failures injectable, and
is held to the truth by `tests/conformance/`. `record.py` says what the modules share.
"""
