"""Budgets that many requests at once cannot overshoot, without asking the ledger for each of them.

What a request may cost at the most (`worst`) is reserved before anybody is called. Beside the ledger stand the `accounts`:
how much of each budget is spent, and how much each coordinator has leased. A coordinator's `purse` reserves out of its own
`leases` without asking anybody, and settles with what the answer's report says.
"""
