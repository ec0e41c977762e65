"""The queue benchmark: what each row of its table measures, and how."""
