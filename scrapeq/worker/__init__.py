"""The fetch worker: it takes a task, sends its request, and settles it in the queue."""
