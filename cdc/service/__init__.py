"""Long-running work: roles in threads, their health, and metrics over HTTP.

`roles` runs them and raises their errors, `health` knows how they are, `http` serves `/metrics`, `/healthz`, `/readyz`.
"""
