"""Restores: what holds at a moment (`versions`), and bringing a namespace back to it.

`at` reads the words that name the moment; `plan` says what a restore would do; `clone` writes the state at the moment
into another place, `rewind` undoes in place what changed since.
"""
