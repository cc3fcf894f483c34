"""Studies: families of ordinary jobs that together answer one question, with the evidence.

`requests` says what may be asked, `points` which jobs that means, `records` keeps studies, `advance` takes the next
step of one, `evidence` reads what its jobs have left, and `reports` draws the conclusion. The analyses themselves
(`grid`, `search`; `lr_range` with `stability` and `rules`; `batch_size` with `sayings`) are pure.
"""
