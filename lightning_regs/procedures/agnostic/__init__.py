"""Weight agnostic networks: topologies that classify with one weight shared by all connections, and their search."""
