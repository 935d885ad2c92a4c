"""Models that are run here: servers of OpenAI's shape as supervised processes, replicas that come and go, and which of them
answers a call. No Ray in it; `actors.local_model` is where it runs on a cluster."""
