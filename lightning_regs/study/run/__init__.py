"""From a plan to rows: runner, worker, executors, progress."""
