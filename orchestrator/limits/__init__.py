"""Requests and tokens per minute of each caller's key, over all coordinators together.

A limit is a sliding window, not a bucket: in any 60 seconds as many pass as the limit says, whether they come evenly or at
once. The windows are kept in one place (`central`, in the control actor), and coordinators take permits from it in batches
(`limiter`): large ones while a window is far from full, single ones near its end, and what is not used goes back within a
second. So a request of a busy key costs microseconds, and a limit is kept to the request all the same.
"""
