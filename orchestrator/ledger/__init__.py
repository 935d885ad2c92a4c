"""What requests were made and what they cost, kept in a database.

A coordinator's `recorder` gathers what has ended and posts it in batches to one `bookkeeper`, which alone writes to the
`store`; `spend` asks it. What was acknowledged is on disk, and a batch that is posted twice is written once.
"""
