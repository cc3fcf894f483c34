"""What runs jobs: the worker, its trainers, and the recorder of their curves. The only place that knows torch."""
