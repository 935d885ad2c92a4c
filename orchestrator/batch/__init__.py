"""Batch evaluations (contract §7): what is asked, of whom, in which order, and what is kept. Where it runs is
`actors.batch`."""
