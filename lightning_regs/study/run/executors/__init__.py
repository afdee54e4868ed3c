"""What carries out runs: this process, processes on this machine, or the machines of a Ray cluster."""
