"""What benchmarks/speed.py is made of: the networks, the clocks, and the processes beside it."""
