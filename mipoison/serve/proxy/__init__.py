"""The HTTP side: requests, the upstream, headers, metrics and logs."""
