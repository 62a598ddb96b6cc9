"""The numbers of `examples.paper_hardware`, one module per section of the paper."""
