"""One namespace, polled: sweeps become changes in Kafka, and what is gone becomes deletes.

Pure: `entries`, `state`, `versions`, `deletes`, `pace`. On disk: `catalog`, `catalog_files`. At the edges: `sweep`,
`reconcile`, `publish`, `resume`, `collector`.
"""
