"""Batch evaluations (contract §7): what is asked, what is kept, and what it was worth. They run by `actors.batch`."""
