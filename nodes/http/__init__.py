"""The node's HTTP side: health and metrics in clear, the admin API over mutual TLS."""
