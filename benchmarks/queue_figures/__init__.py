"""The figures of the queue: what each row of the table measures, and how."""
