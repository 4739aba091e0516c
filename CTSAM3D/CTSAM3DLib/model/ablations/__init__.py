"""The networks of the paper's Table 4 that do without ResT or without PSAP."""
